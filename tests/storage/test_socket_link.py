"""A link over a socket, on both event loops: what comes early is kept, and an end is told once."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from tests.support.waiting import until
from waypost.storage.wire.socket_link import socket_link

uvloop = pytest.importorskip("uvloop")

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


class Taken:
    """A receiver that keeps what it gets."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.ends = 0

    def received(self, data: bytes) -> None:
        self.data += data

    def closed(self) -> None:
        self.ends += 1


@pytest.mark.parametrize("loop", LOOPS)
def test_what_comes_before_the_start_and_after_it_is_received(loop: str) -> None:
    async def exchange() -> None:
        for attempt in range(100):
            ours, theirs = socket.socketpair()
            if attempt % 2:
                theirs.send(b"early")
            link = await socket_link(ours)
            taken = Taken()
            link.start(taken)
            if not attempt % 2:
                theirs.send(b"early")
            await until(lambda: taken.data == b"early", "what came first")  # noqa: B023
            link.pause()
            link.send(b"back")
            theirs.send(b" and late")
            link.resume()
            await until(lambda: taken.data == b"early and late", "what came later")  # noqa: B023
            assert theirs.recv(10) == b"back"
            theirs.close()
            await until(lambda: taken.ends == 1, "the end")  # noqa: B023

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(exchange())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_severed_link_is_told_although_the_other_end_is_open(loop: str) -> None:
    async def sever() -> None:
        ours, theirs = socket.socketpair()
        link = await socket_link(ours)
        taken = Taken()
        link.start(taken)
        link.sever()
        await until(lambda: taken.ends == 1, "the end")
        link.close()
        theirs.close()

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(sever())
