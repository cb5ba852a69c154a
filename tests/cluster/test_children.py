"""Child namespaces that clients of one server make, and emits of a parent on another one."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

import waypost
from tests.cluster.nodes import Cluster, cluster
from tests.server.model_client import ModelClient, hub_of, until


def make(number: int) -> waypost.Server:
    io = waypost.Server(drain_s=0.0)
    io.of(re.compile("/shop-.*"))
    return io


def parent(nodes: Cluster, number: int) -> waypost.ParentNamespace:
    public: waypost.ParentNamespace = hub_of(nodes.servers[number]).directory._parents[0].public
    return public


def has(nodes: Cluster, number: int, name: str) -> bool:
    return hub_of(nodes.servers[number]).directory.get(name) is not None


def generation(nodes: Cluster, number: int) -> str:
    child = hub_of(nodes.servers[number]).directory.get("/shop-1")
    assert child is not None
    return child.generation


async def in_time(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await condition():
            await asyncio.sleep(0.01)


async def test_an_emit_of_a_parent_reaches_the_children_of_all_servers() -> None:
    async with cluster(2, make) as nodes:
        clients = [ModelClient(nodes.servers[number], f"/shop-{number}") for number in (0, 1, 1)]
        for client in clients:
            await client.connect()
        await until(lambda: has(nodes, 0, "/shop-1") and has(nodes, 1, "/shop-0"))
        await parent(nodes, 0).emit("news")
        for client in clients:
            assert await client.wait_for(1) == [["news"]]


async def test_a_server_that_comes_later_knows_the_children() -> None:
    async with cluster(1, make) as nodes:
        client = ModelClient(nodes.servers[0], "/shop-1")
        await client.connect()
        async with cluster(1, make, beside=nodes) as later:
            await until(lambda: has(later, 0, "/shop-1"))
            await parent(later, 0).emit("news")
            assert await client.wait_for(1) == [["news"]]


async def test_a_child_goes_when_no_server_has_clients_in_it() -> None:
    async with cluster(2, make) as nodes:
        client = ModelClient(nodes.servers[0], "/shop-1")
        await client.connect()
        await until(lambda: has(nodes, 1, "/shop-1"))
        await parent(nodes, 1).emit("news")
        before = generation(nodes, 0)
        for io in reversed(nodes.servers):
            await hub_of(io).keep_up()
        assert has(nodes, 0, "/shop-1")
        assert has(nodes, 1, "/shop-1")
        await client.wait_for(1)
        client.send("1")

        async def is_gone() -> bool:
            for io in nodes.servers:
                await hub_of(io).keep_up()
            return not (has(nodes, 0, "/shop-1") or has(nodes, 1, "/shop-1"))

        await in_time(is_gone)
        again = ModelClient(nodes.servers[1], "/shop-1")
        await again.connect()
        assert generation(nodes, 1) != before, "the journal is a new one"


async def test_a_child_with_clients_elsewhere_makes_no_room_for_another() -> None:
    def small(number: int) -> waypost.Server:
        io = waypost.Server(drain_s=0.0, max_child_namespaces=1)
        io.of(re.compile("/shop-.*"))
        return io

    async with cluster(2, small) as nodes:
        client = ModelClient(nodes.servers[0], "/shop-1")
        await client.connect()
        await until(lambda: has(nodes, 1, "/shop-1"))
        refused = ModelClient(nodes.servers[1], "/shop-2")
        await refused.connect()
        assert refused.refusal == {"message": "Too many namespaces"}
        await parent(nodes, 1).emit("news")
        assert await client.wait_for(1) == [["news"]]


async def test_the_last_server_tells_of_a_session_in_a_child_that_it_never_had() -> None:
    ended: list[str] = []

    def short(number: int) -> waypost.Server:
        io = waypost.Server(drain_s=0.0, recovery=waypost.Recovery(session_ttl_s=0.05))
        shops = io.of(re.compile("/shop-.*"))

        @shops.on("session_expired")
        async def expired(session: waypost.EndedSession) -> None:
            ended.append(session.namespace)

        return io

    async with cluster(2, short) as nodes:
        client = ModelClient(nodes.servers[0], "/shop-1")
        await client.connect()
        nodes.kill(0)

        async def is_told() -> bool:
            await hub_of(nodes.servers[1]).keep_up()
            return bool(ended)

        await in_time(is_told)
        assert ended == ["/shop-1"]
