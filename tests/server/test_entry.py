"""What nobody may hear, see or do who is not let in."""

from __future__ import annotations

import asyncio
import random
import re
from typing import Any

import pytest

import waypost
from tests.server.model_client import ModelClient, hub_of, running, until
from waypost.server.basics.environment import Environment


@pytest.mark.parametrize("refused", [True, False])
async def test_whoever_is_not_let_in_hears_nothing(refused: bool) -> None:
    io = waypost.Server(drain_s=0.0)
    decided = asyncio.Event()

    @io.on("connect")
    async def connect(socket: waypost.Socket, auth: Any) -> None:
        await socket.join("secrets")
        await decided.wait()
        if refused:
            raise waypost.ConnectionRefused("no")

    async with running(io):
        client = ModelClient(io)
        client.open()
        await until(lambda: len(hub_of(io).directory.core("/").index) > 0)
        await io.emit("to all", "a secret")
        await io.to("secrets").emit("to the room", "a secret")
        await asyncio.sleep(0)
        assert client.events == []
        decided.set()
        await until(lambda: client.connected or client.refusal is not None)
        if refused:
            assert client.refusal == {"message": "no"}
            assert client.events == []
            await io.emit("afterwards", "a secret")
            assert client.events == []
        else:
            await until(lambda: len(client.events) == 2)


async def test_many_connects_while_the_first_is_decided_cost_one_more_run() -> None:
    io = waypost.Server(drain_s=0.0)
    asked: list[str] = []
    decided = asyncio.Event()

    @io.use
    async def slow(socket: waypost.Socket) -> None:
        asked.append(socket.id)
        await decided.wait()

    async with running(io):
        client = ModelClient(io)
        client.open()
        await until(lambda: bool(asked))
        for _ in range(100):
            client.send("0")
        decided.set()
        await until(lambda: client.connected)
        assert [client.sid] == asked[1:]


def test_ids_come_from_the_systems_secret_source() -> None:
    new_id = Environment().new_id
    random.seed(1)
    first = [new_id() for _ in range(500)]
    random.seed(1)
    ids = first + [new_id() for _ in range(500)]
    assert len(set(ids)) == 1_000
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{20}", name) for name in ids)


async def test_what_is_shown_of_a_server_holds_no_session_id() -> None:
    io = waypost.Server(drain_s=0.0)
    shown: list[Any] = []
    for name in io.hooks.__slots__:
        getattr(io.hooks, name)(shown.append)
    io.on("echo", lambda socket, value: value)
    async with running(io):
        client = ModelClient(io)
        await client.connect()
        await client.call("echo", 1)
        assert client.connection is not None
        shown.append(io.state())
        await client.cut()
    assert len(shown) > 5
    assert client.connection.sid not in str(shown)
