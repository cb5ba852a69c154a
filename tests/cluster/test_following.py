"""Events and rooms over several servers: one order for all clients."""

from __future__ import annotations

import asyncio
import random

import pytest

import waypost
from tests.cluster.nodes import Cluster, cluster
from tests.server.model_client import ModelClient, hub_of, until


async def settle(nodes: Cluster) -> None:
    """Wait until all servers have applied all that was written before."""
    for io in nodes.servers:
        journal = hub_of(io).directory.core("/").feed.journal
        assert journal is not None
        await journal.find_session(b"nobody")


async def test_clients_of_all_servers_see_one_order(rng: random.Random) -> None:
    async with cluster(3) as nodes:
        clients = [nodes.client(number) for number in (0, 0, 1, 2)]
        for client in clients:
            await client.connect()

        async def emit(number: int) -> None:
            for count in range(200):
                emitting = asyncio.ensure_future(nodes.servers[number].emit("news", number, count))
                others.append(emitting)
                if rng.random() < 0.5:
                    await emitting

        others: list[asyncio.Future[None]] = []
        await asyncio.gather(*map(emit, range(3)))
        await asyncio.gather(*others)
        await settle(nodes)
        first = await clients[0].wait_for(600)
        for client in clients:
            assert await client.wait_for(600) == first
            assert client.offsets == clients[0].offsets
        positions = [int(offset.rpartition(".")[2]) for offset in clients[0].offsets]
        assert positions == list(range(1, 601))
        for number in range(3):
            assert [event[2] for event in first if event[1] == number] == list(range(200))


async def test_rooms_are_one_over_all_servers() -> None:
    async with cluster(2) as nodes:
        here, there = nodes.servers
        clients = [nodes.client(0), nodes.client(1)]
        for client in clients:
            await client.connect()
        assert clients[1].sid
        await here.emit("everybody")
        await here.in_(clients[1].sid).sockets_join("red")
        await here.to("red").emit("one")
        await there.to("red").emit("two")
        await there.sockets_join("blue")
        await here.to("blue").except_("red").emit("three")
        await here.in_("blue").sockets_leave("red")
        await there.to("red").emit("nobody")
        await here.emit("all")
        await settle(nodes)
        assert await clients[0].wait_for(3) == [["everybody"], ["three"], ["all"]]
        assert await clients[1].wait_for(4) == [["everybody"], ["one"], ["two"], ["all"]]


async def test_a_socket_emits_to_the_others_of_all_servers() -> None:
    def make(number: int) -> waypost.Server:
        io = waypost.Server(drain_s=0.0)

        @io.on("say")
        async def say(socket: waypost.Socket, text: str) -> None:
            await socket.broadcast.emit("said", text)

        return io

    async with cluster(2, make) as nodes:
        clients = [nodes.client(0), nodes.client(1), nodes.client(1)]
        for client in clients:
            await client.connect()
        clients[1].send('2["say","hello"]')
        for client in (clients[0], clients[2]):
            assert await client.wait_for(1) == [["said", "hello"]]
        await settle(nodes)
        assert clients[1].events == []


async def test_listeners_of_outgoing_events_run_where_the_client_is() -> None:
    shown: list[tuple[int, str]] = []

    def make(number: int) -> waypost.Server:
        io = waypost.Server(drain_s=0.0)
        io.on_any_outgoing(lambda socket, event, *args: shown.append((number, event)))
        return io

    async with cluster(2, make) as nodes:
        client = nodes.client(1)
        await client.connect()
        await nodes.servers[0].emit("news")
        await client.wait_for(1)
        assert shown == [(1, "news")]


async def test_a_namespace_that_nobody_has_opened_is_nobodys() -> None:
    async with cluster(2) as nodes:
        # The other server does not know this namespace at all.
        shop = nodes.servers[0].of("/shop")
        client = ModelClient(nodes.servers[0], "/shop")
        await client.connect()
        await shop.emit("news", 1)
        assert await client.wait_for(1) == [["news", 1]]
        await client.cut()
        await shop.emit("news", 2)
        nodes.servers[1].of("/shop")
        nodes.send_to(client, 1)
        await client.connect()
        assert client.recovered
        assert await client.wait_for(2) == [["news", 1], ["news", 2]]


@pytest.mark.parametrize("close", [False, True])
async def test_clients_of_all_servers_are_disconnected(close: bool) -> None:
    ended: list[tuple[int, str]] = []

    def make(number: int) -> waypost.Server:
        io = waypost.Server(drain_s=0.0)

        @io.on("session_expired")
        async def expired(session: waypost.EndedSession) -> None:
            ended.append((number, session.socket_id))

        return io

    async with cluster(2, make) as nodes:
        here, there, away, other = (nodes.client(number) for number in (0, 1, 1, 1))
        for client in (here, there, away, other):
            await client.connect()
        assert here.sid
        assert there.sid
        assert away.sid
        await nodes.servers[0].in_([here.sid, there.sid, away.sid]).sockets_join("red")
        await away.cut()
        await nodes.servers[0].in_("red").disconnect_sockets(close=close)
        await until(lambda: here.disconnected_by_server and there.disconnected_by_server)
        for client in (here, there):
            assert client.connection is not None
            connection = client.connection
            await until(lambda: connection.is_open is not close)  # noqa: B023  # awaited before the next turn
        await until(lambda: ended == [(1, away.sid)])
        assert other.connected
        await away.connect()
        assert not away.recovered


async def test_an_event_before_a_volatile_one_of_the_same_server_has_its_offset() -> None:
    async with cluster(2) as nodes:
        client = nodes.client(1)
        await client.connect()
        await nodes.servers[0].emit("news", 1)
        await client.wait_for(1)
        await nodes.servers[1].volatile.emit("tick")
        await client.wait_for(2)
        # The offset of a volatile event is what this server has applied.
        assert client.offsets[0] == client.offsets[1]
