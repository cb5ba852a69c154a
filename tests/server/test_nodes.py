"""Two and three servers on one store, in one event loop: what one does, the clients of all see."""

from __future__ import annotations

import waypost
from tests.server.model_client import ModelClient, hub_of, until
from tests.support.nodes import servers


def prepare(io: waypost.Server) -> None:
    io.on("say", lambda socket, text: io.emit("said", text))


async def test_clients_of_all_servers_see_the_same_events_in_the_same_order() -> None:
    async with servers(3, prepare=prepare, drain_s=0.0) as (_, ios):
        clients = [ModelClient(io) for io in ios]
        for client in clients:
            await client.connect()
        for number in range(30):
            await ios[number % 3].emit("news", number)
        await until(lambda: all(len(one.events) == 30 for one in clients))
        assert [one.events for one in clients] == [[["news", number] for number in range(30)]] * 3
        assert clients[0].offset == clients[1].offset == clients[2].offset


async def test_a_client_recovers_at_another_server() -> None:
    async with servers(2, prepare=prepare, drain_s=0.0) as (_, (first, second)):
        client = ModelClient(first)
        await client.connect()
        await first.emit("news", 1)
        await until(lambda: len(client.events) == 1)
        await client.cut()
        await second.emit("news", 2)
        client.hub = hub_of(second)
        await client.connect()
        assert client.recovered
        assert await client.wait_for(2) == [["news", 1], ["news", 2]]


async def test_a_client_recovers_at_another_server_when_its_own_one_is_dead() -> None:
    async with servers(2, prepare=prepare, drain_s=0.0) as (nodes, (first, second)):
        client = ModelClient(first)
        await client.connect()
        await first.emit("news", 1)
        await until(lambda: len(client.events) == 1)
        nodes.kill("n0")
        client.vanish()
        await second.emit("news", 2)
        client.hub = hub_of(second)
        await client.connect()
        assert client.recovered
        assert await client.wait_for(2) == [["news", 1], ["news", 2]]
