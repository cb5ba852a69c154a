"""Child namespaces that clients made: limits for an address, and who goes when there are too many."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.server.model_client import HANDSHAKE, ModelClient, hub_of, running, until
from waypost.server.namespaces.core import NamespaceCore
from waypost.server.namespaces.eviction import Eviction

MakeServer = Callable[..., waypost.Server]
TENANTS = re.compile(r"/tenant-\w+")
FULL = {"message": "Too many namespaces"}


@pytest.fixture(params=["memory", "sqlite"])
def make_server(request: pytest.FixtureRequest, tmp_path: Path) -> MakeServer:
    spec = "memory:" if request.param == "memory" else str(tmp_path / "store.db")

    def make(**options: Any) -> waypost.Server:
        io = waypost.Server(**{"store": spec, "drain_s": 0.0, **options})
        tenants = io.of(TENANTS)

        @tenants.on("use")
        async def use(socket: waypost.Socket, how: str) -> None:
            if how == "room":
                await socket.join("room")
            elif how == "data":
                socket.data["key"] = "value"
            else:
                await socket.emit("hello")

        return io

    return make


def names(io: waypost.Server) -> set[str]:
    return {namespace.name for namespace in hub_of(io).directory} - {"/"}


async def enter(io: waypost.Server, name: str, address: str = "test") -> ModelClient:
    client = ModelClient(io, f"/tenant-{name}", handshake=replace(HANDSHAKE, address=address))
    await client.connect()
    return client


async def leave(io: waypost.Server, client: ModelClient) -> None:
    """Cut a client off; its session stays."""
    await client.cut()
    child = hub_of(io).directory.get(client.namespace)
    assert child is not None
    await until(lambda: child.is_idle)


async def use(io: waypost.Server, name: str, how: str) -> ModelClient:
    """Let a client make a child and use it, and leave."""
    client = await enter(io, name)
    client.send(f'21["use","{how}"]')
    await until(lambda: 1 in client.acks)
    await leave(io, client)
    return client


async def test_an_address_makes_only_so_many(make_server: MakeServer) -> None:
    io = make_server(max_child_namespaces_per_address=2)
    async with running(io):
        for name in ("1", "2"):
            assert (await enter(io, name, "203.0.113.7")).connected
        assert (await enter(io, "3", "203.0.113.7")).refusal == FULL
        assert (await enter(io, "2", "203.0.113.7")).connected
        assert (await enter(io, "3", "203.0.113.8")).connected
        assert (await enter(io, "4", "2001:db8::1")).connected
        assert (await enter(io, "5", "2001:db8::2")).connected
        assert (await enter(io, "6", "2001:db8::3")).refusal == FULL
        for name in ("6", "7", "8"):
            assert (await enter(io, name, "127.0.0.1")).connected
        assert len(names(io)) == 8


async def test_a_child_that_is_forgotten_counts_no_more() -> None:
    io = waypost.Server(drain_s=0.0, recovery=None, max_child_namespaces_per_address=1)
    io.of(TENANTS)
    async with running(io):
        client = await enter(io, "1", "203.0.113.7")
        assert (await enter(io, "2", "203.0.113.7")).refusal == FULL
        await leave(io, client)
        await hub_of(io).keep_up()
        assert (await enter(io, "2", "203.0.113.7")).connected


async def test_the_child_that_was_empty_for_longest_goes(make_server: MakeServer) -> None:
    io = make_server(max_child_namespaces=3)
    async with running(io):
        clients = {name: await enter(io, name) for name in ("a", "b", "c")}
        for name in ("b", "a"):
            await leave(io, clients[name])
            await asyncio.sleep(0.01)
        assert (await enter(io, "d")).connected
        assert names(io) == {"/tenant-a", "/tenant-c", "/tenant-d"}
        # The client of the one that is gone begins anew.
        await clients["b"].connect()
        assert clients["b"].connected
        assert not clients["b"].recovered
        assert names(io) == {"/tenant-b", "/tenant-c", "/tenant-d"}
        assert (await enter(io, "e")).refusal == FULL


async def test_children_that_were_used_stay(make_server: MakeServer) -> None:
    io = make_server(max_child_namespaces=4)
    async with running(io):
        used = [await use(io, how, how) for how in ("room", "data", "event")]
        await leave(io, await enter(io, "bare"))
        newcomer = await enter(io, "new")
        assert newcomer.connected
        assert names(io) == {"/tenant-room", "/tenant-data", "/tenant-event", "/tenant-new"}
        assert (await enter(io, "newer")).refusal == FULL
        for client in used:
            await client.connect()
            assert client.recovered


async def test_many_clients_that_come_at_once_make_no_more_than_may_be(make_server: MakeServer) -> None:
    io = make_server(max_child_namespaces=5)
    async with running(io):
        for number in range(5):
            await leave(io, await enter(io, f"old{number}"))
        await asyncio.gather(*(enter(io, f"new{number}") for number in range(10)))
        assert names(io) == {f"/tenant-new{number}" for number in range(5)}


async def test_a_full_pool_has_room_after_a_restart(tmp_path: Path) -> None:
    def make() -> waypost.Server:
        io = waypost.Server(store=str(tmp_path / "store.db"), drain_s=0.0, max_child_namespaces=3)
        io.of(TENANTS)
        return io

    async with running(make()) as io:
        for name in ("a", "b", "c"):
            await leave(io, await enter(io, name))
    async with running(make()) as io:
        assert names(io) == {"/tenant-a", "/tenant-b", "/tenant-c"}
        assert (await enter(io, "d")).connected
        assert len(names(io)) == 3


async def test_a_search_in_vain_is_not_repeated_at_once() -> None:
    searches = 0

    def children() -> list[NamespaceCore]:
        nonlocal searches
        searches += 1
        return []

    eviction = Eviction(children, lambda _child: True)
    for _ in range(3):
        assert await eviction.choose() is None
    assert searches == 1
