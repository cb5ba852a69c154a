"""The bytes of a connection's events: large ones take turns, small ones don't wait for them."""

from __future__ import annotations

import asyncio
from typing import Any

import waypost
from tests.server.model_client import ModelClient, running, until

LARGE = "[" + ",".join(["[]"] * 10_000) + "]"
"""30 kB, and 0.7 MB once it is decoded."""


async def test_large_events_take_turns_and_small_ones_pass_them() -> None:
    io = waypost.Server(drain_s=0.0, max_pending_bytes=1 << 20)
    go = asyncio.Event()
    begun: list[str] = []
    entered: list[waypost.Socket] = []

    async def work(socket: waypost.Socket, value: Any) -> None:
        begun.append(f"{socket.namespace} {len(value)}")
        if len(value) > 1:
            await go.wait()

    for name in ("/", "/other"):
        io.of(name).on("work", work)
        io.of(name).on("connect", entered.append)
        io.of(name).on("work_aside", work, concurrent=True)

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        connection = client.connection
        assert connection is not None

        def readable() -> bool:
            return connection.is_readable

        connection.receive("40/other,")
        await until(lambda: len(entered) == 2 and entered[1].connected)
        connection.receive(f'42["work",{LARGE}]')
        await until(lambda: begun == ["/ 10000"])
        connection.receive('42/other,["work",[]]')
        await until(lambda: begun == ["/ 10000", "/other 0"])
        assert readable()
        connection.receive(f'42/other,["work_aside",{LARGE}]')
        connection.receive('42/other,["work",[1]]')
        assert not readable()
        await asyncio.sleep(0)
        assert begun == ["/ 10000", "/other 0"]
        go.set()
        await until(lambda: {*begun[2:]} == {"/other 10000", "/other 1"})
        await until(readable)


async def test_concurrent_handlers_take_turns_over_large_events() -> None:
    io = waypost.Server(drain_s=0.0, max_pending_bytes=1 << 20)
    running_now, most = 0, 0

    @io.on("work", concurrent=True)
    async def work(socket: waypost.Socket, value: Any) -> int:
        nonlocal running_now, most
        running_now += 1
        most = max(most, running_now)
        await asyncio.sleep(0.01)
        running_now -= 1
        return len(value)

    async with running(io):
        client = ModelClient(io)
        await client.connect()
        assert client.connection is not None
        for number in range(5):
            await client.connection.wait_until_readable()
            client.connection.receive(f'42{number}["work",{LARGE}]')
        await until(
            lambda: running_now == 0 and most > 0 and client.connection is not None and client.connection.is_readable
        )
    assert most == 1
