"""Stopping: nobody new, clients told over a time that may be shortened, handlers finished, the store closed."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

import waypost
from tests.server.model_client import ModelClient, hub_of, running, until


async def clients_of(io: waypost.Server, count: int) -> list[ModelClient]:
    clients = [ModelClient(io) for _ in range(count)]
    for client in clients:
        await client.connect()
    return clients


def gone(clients: list[ModelClient]) -> int:
    return sum(not client.connected for client in clients)


async def test_clients_work_until_they_are_told() -> None:
    io = waypost.Server(recovery=None)
    reasons: list[str] = []

    @io.event
    async def echo(socket: waypost.Socket, value: int) -> int:
        return value

    @io.on("disconnect")
    async def disconnect(socket: waypost.Socket, reason: str) -> None:
        reasons.append(reason)

    await io.start()
    clients = await clients_of(io, 3)
    closing = asyncio.create_task(io.close(drain_s=60))
    await until(lambda: gone(clients) == 1)
    last = clients[-1]
    assert await last.call("echo", 1) == [1]
    await io.emit("news")
    assert await last.wait_for(1) == [["news"]]
    assert not closing.done()
    await io.close(drain_s=0)
    await closing
    assert gone(clients) == 3
    assert reasons == ["server shutting down"] * 3


async def test_a_stop_may_be_shortened_and_not_lengthened() -> None:
    io = waypost.Server(recovery=None, drain_s=60)
    await io.start()
    clients = await clients_of(io, 4)
    began = time.monotonic()
    first = asyncio.create_task(io.close())
    await until(lambda: gone(clients) == 1)
    second = asyncio.create_task(io.close(drain_s=0.2))
    third = asyncio.create_task(io.close(drain_s=600))
    fourth = asyncio.create_task(io.close())
    await asyncio.gather(first, second, third, fourth)
    assert time.monotonic() - began < 30
    assert gone(clients) == 4
    await io.close()


async def test_whoever_stops_waiting_stops_no_stop() -> None:
    io = waypost.Server(recovery=None, drain_s=0.1)
    await io.start()
    clients = await clients_of(io, 2)
    closing = asyncio.create_task(io.close())
    await until(lambda: gone(clients) == 1)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await io.close()
    assert gone(clients) == 2


async def test_a_client_on_its_way_in_is_sent_away() -> None:
    io = waypost.Server(drain_s=0)
    inside = asyncio.Event()
    go = asyncio.Event()
    ended: list[str] = []

    @io.use
    async def gate(socket: waypost.Socket) -> None:
        inside.set()
        await go.wait()
        ended.append("gate")

    @io.on("connect")
    async def connect(socket: waypost.Socket) -> None:
        ended.append("connect")

    await io.start()
    client = ModelClient(io)
    client.open()
    await inside.wait()
    closing = asyncio.create_task(io.close())
    await until(lambda: client.reading is not None and client.reading.done())
    go.set()
    await closing
    assert not client.connected
    assert client.refusal is None
    assert ended == ["gate"]


async def test_handlers_finish_and_what_they_emit_is_kept(tmp_path: Any) -> None:
    store = str(tmp_path / "store.db")
    io = waypost.Server(store=store, drain_s=0)
    go = asyncio.Event()

    @io.event
    async def work(socket: waypost.Socket) -> None:
        await go.wait()
        await io.emit("done")

    await io.start()
    client = ModelClient(io)
    await client.connect()
    client.send('2["work"]')
    closing = asyncio.create_task(io.close())
    await until(lambda: not client.connected)
    go.set()
    await closing
    async with running(waypost.Server(store=store, drain_s=0)) as again:
        client.hub = hub_of(again)
        await client.connect()
        assert client.recovered
        assert await client.wait_for(1) == [["done"]]


async def test_a_server_that_was_never_started_can_be_closed() -> None:
    io = waypost.Server()
    await io.close()
    await io.close()


@pytest.mark.parametrize("drain_s", [-1, float("nan")])
async def test_a_time_that_is_none_is_told(drain_s: float) -> None:
    io = waypost.Server(drain_s=0)
    with pytest.raises(waypost.ConfigurationError, match="drain_s"):
        await io.close(drain_s=drain_s)
    await io.close()
