"""A client belongs to one event loop of asyncio's; elsewhere its methods raise, before they do anything."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.client.serving import Recorder, serving
from tests.server.model_client import until
from tests.support.require import require_module

CALLS: dict[str, Callable[[waypost.Client], Awaitable[Any]]] = {
    "connect": lambda client: client.connect(),
    "emit": lambda client: client.emit("echo", 1),
    "volatile": lambda client: client.volatile.emit("echo", 1),
    "call": lambda client: client.call("echo", 1),
    "events": lambda client: anext(client.events("told")),
    "other": lambda client: client.of("/other").connect(),
    "wait_closed": lambda client: client.wait_closed(),
    "disconnect": lambda client: client.disconnect(),
    "close": lambda client: client.close(),
}


def outcome_in_thread(work: Callable[[], Any]) -> BaseException | None:
    outcome: list[BaseException | None] = []

    def run() -> None:
        try:
            work()
            outcome.append(None)
        except BaseException as error:  # noqa: BLE001  # compared by the test
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    return outcome[0]


async def test_another_event_loop_is_refused(url: str) -> None:
    client = waypost.Client(url)
    await client.connect()
    for name, call in CALLS.items():

        async def elsewhere(call: Callable[[waypost.Client], Awaitable[Any]] = call) -> None:
            async with asyncio.timeout(60):
                await call(client)

        error = await asyncio.to_thread(outcome_in_thread, lambda: asyncio.run(elsewhere()))
        assert isinstance(error, waypost.WrongEventLoop), (name, error)
        assert "make a client for each event loop" in str(error)
    assert client.connected
    assert await client.call("echo", 1) == 1
    await client.close()


def test_a_second_loop_after_the_first_has_ended_is_refused() -> None:
    client = waypost.Client("http://127.0.0.1:1")
    with pytest.raises(waypost.ConnectFailed):
        asyncio.run(client.connect())
    with pytest.raises(waypost.WrongEventLoop, match=r"used first, which has ended"):
        asyncio.run(client.connect())


def test_trio_is_refused_with_a_sentence() -> None:
    trio = require_module("trio")
    client, io = waypost.Client("http://127.0.0.1:1"), waypost.Server()
    for work in (client.connect, io.start, lambda: client.emit("told")):
        with pytest.raises(waypost.WrongEventLoop, match=r"with trio, use waypost\.sync\.Client in a thread"):
            trio.run(work)


async def test_a_device_that_boots_offline_connects_later(
    io: waypost.Server, unused_tcp_port: int, tmp_path: Path
) -> None:
    seen: list[Any] = []

    @io.event
    async def measured(socket: waypost.Socket, value: int) -> None:
        seen.append(value)

    client = waypost.Client(
        f"http://127.0.0.1:{unused_tcp_port}", outbox=tmp_path / "outbox.db", reconnection_delay_s=0.01
    )
    recorder = Recorder(client)
    await client.connect(wait=False)
    assert client.active
    for value in range(3):
        await client.emit("measured", value)
    await until(lambda: len(recorder.of("connect_error")) > 1)
    assert await client.outbox.count() == 3
    async with serving(io, unused_tcp_port):
        await client.outbox.drained()
        assert client.connected
        await client.connect(wait=False)  # nothing happens
        assert seen == [0, 1, 2]
        assert len(recorder.of("connect")) == 1
        await client.close()


async def test_a_refusal_of_a_client_that_nobody_waits_for_calls_its_handler(url: str) -> None:
    client = waypost.Client(url, auth={"refuse": "closed"})
    recorder = Recorder(client)
    await client.connect(wait=False)
    await until(lambda: bool(recorder.of("connect_error")))
    assert recorder.of("connect_error")[0][0].data == {"why": "closed"}
    assert not client.active
    await client.close()


async def test_leaving_ends_an_attempt_that_nobody_waits_for() -> None:
    client = waypost.Client("http://127.0.0.1:1", reconnection_delay_s=60)
    await client.connect(wait=False)
    await client.disconnect()
    assert not client.active
    await asyncio.wait_for(client.wait_closed(), 30)
