"""The channel between parent and worker: messages in order, sockets with them, and the end."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

import pytest

from tests.support.waiting import until
from waypost.workers.channel import Channel
from waypost.workers.messages import ORDERS, REPORTS, Drain, Listen, Order, Peer, Report, Started


class Ends:
    """Both ends of a channel, and what the worker's end has got."""

    def __init__(self) -> None:
        self.raw, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.worker: Channel[Order] = Channel(theirs, ORDERS)
        self.got: list[tuple[Order, socket.socket | None]] = []
        self.ended = 0

    def start(self) -> None:
        self.worker.start(lambda order, passed: self.got.append((order, passed)), self._end)

    def _end(self) -> None:
        self.ended += 1

    def parent(self) -> Channel[Report]:
        return Channel(self.raw, REPORTS)


@pytest.fixture
def open_descriptors() -> Callable[[], int]:
    return lambda: len(os.listdir("/proc/self/fd" if os.path.exists("/proc/self/fd") else "/dev/fd"))


async def test_messages_come_in_order_with_their_sockets(open_descriptors: Callable[[], int]) -> None:
    before = open_descriptors()
    ends = Ends()
    parent = ends.parent()
    # What was sent before the loop ran arrives too.
    parent.send(Listen())
    pairs = [socket.socketpair() for _ in range(100)]
    for number, (_, passed) in enumerate(pairs):
        parent.send(Peer(number), passed)
        parent.send(Drain())
    parent.start(lambda report, passed: None, lambda: None)
    ends.start()
    await until(lambda: len(ends.got) == 201, "all messages")
    assert ends.got[0] == (Listen(), None)
    for number, (kept, _) in enumerate(pairs):
        order, came = ends.got[1 + 2 * number]
        assert order == Peer(number)
        assert came is not None
        kept.send(b"x")
        assert came.recv(1) == b"x"
        came.close()
        kept.close()
        assert ends.got[2 + 2 * number] == (Drain(), None)
    parent.close()
    await until(lambda: ends.ended == 1, "the end")
    await asyncio.sleep(0)
    assert open_descriptors() == before


async def test_a_channel_that_is_not_read_waits_and_loses_nothing() -> None:
    ends = Ends()
    parent = ends.parent()
    parent.start(lambda report, passed: None, lambda: None)
    for number in range(20_000):
        parent.send(Peer(number))
    ends.start()
    await until(lambda: len(ends.got) == 20_000, "all messages")
    assert [order.number for order, _ in ends.got if isinstance(order, Peer)] == list(range(20_000))
    parent.close()
    ends.worker.close()


async def test_the_other_end_is_gone(open_descriptors: Callable[[], int]) -> None:
    before = open_descriptors()
    ends = Ends()
    ends.start()
    ends.raw.close()
    await until(lambda: ends.ended == 1, "the end")
    one, other = socket.socketpair()
    ends.worker.send(Started(), one)
    other.close()
    assert open_descriptors() == before


async def test_a_message_of_another_version_is_logged_and_the_next_one_taken(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ends = Ends()
    parent = ends.parent()
    ends.start()
    parent.send(Started())
    parent.send(Drain())
    await until(lambda: len(ends.got) == 1, "the one it knows")
    assert ends.got[0][0] == Drain()
    assert "not understood" in caplog.text
    parent.close()
    ends.worker.close()
