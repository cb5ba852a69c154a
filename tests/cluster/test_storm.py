"""Clients that hop between servers which freeze and die, at random: nobody misses, doubles or reorders anything."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack

import pytest

import waypost
from tests.cluster.nodes import Cluster, cluster
from tests.server.model_client import ModelClient, hub_of, running, until

SERVERS = 3
CLIENTS = 6
STEPS = 150


class Storm:
    """The servers, the clients, and what was emitted.

    Attributes:
        emitted: The number of events for all.
        told: For each socket id, what the application was told, in order.
    """

    def __init__(self, nodes: Cluster, rng: random.Random, stack: AsyncExitStack) -> None:
        self.nodes = nodes
        self.rng = rng
        self.stack = stack
        self.emitted = 0
        self.clients: list[ModelClient] = []
        self.frozen: set[int] = set()

    async def step(self) -> None:
        """Do something."""
        what = self.rng.choices(
            [self.emit, self.hop, self.freeze, self.thaw, self.kill, self.pause], [10, 8, 1, 2, 0.5, 4]
        )[0]
        await what()

    def up(self) -> list[int]:
        """Return the servers that are neither frozen nor dead."""
        return [number for number in range(SERVERS) if number not in self.frozen]

    async def emit(self) -> None:
        self.emitted += 1
        await self.nodes.servers[self.rng.choice(self.up())].emit("news", self.emitted)

    async def hop(self) -> None:
        client = self.rng.choice(self.clients)
        if self.rng.random() < 0.5:
            await client.cut()
        else:
            client.vanish()
        self.nodes.send_to(client, self.rng.choice(self.up()))
        client.open()

    async def freeze(self) -> None:
        if not self.frozen:
            self.frozen.add(self.rng.randrange(SERVERS))
            self.nodes.freeze(*self.frozen)

    async def thaw(self) -> None:
        for number in self.frozen:
            self.nodes.thaw(number)
        self.frozen.clear()

    async def kill(self) -> None:
        number = self.rng.randrange(SERVERS)
        self.frozen.discard(number)
        dead = hub_of(self.nodes.servers[number])
        self.nodes.kill(number)
        io = make(number)
        self.nodes.replace(number, io)
        await self.stack.enter_async_context(running(io))
        for client in self.clients:
            if client.hub is dead:
                client.vanish()
                self.nodes.send_to(client, self.rng.choice(self.up()))
                client.open()

    async def pause(self) -> None:
        for _ in range(self.rng.randrange(30)):
            await asyncio.sleep(0)


def make(_: int) -> waypost.Server:
    return waypost.Server(drain_s=0.0, handler_grace_s=0.02)


async def storm(rng: random.Random) -> None:
    async with AsyncExitStack() as stack:
        nodes = await stack.enter_async_context(cluster(SERVERS, make))
        storm = Storm(nodes, rng, stack)
        for number in range(CLIENTS):
            client = nodes.client(number % SERVERS)
            await client.connect()
            storm.clients.append(client)
        for _ in range(STEPS):
            await storm.step()
        await storm.thaw()
        for client in storm.clients:
            await client.cut()
            nodes.send_to(client, rng.randrange(SERVERS))
            await client.connect()
            assert client.recovered, client.answer
        for client in storm.clients:
            await until(lambda client=client: len(client.events) >= storm.emitted)  # type: ignore[misc]
            assert [number for _, number in client.events] == list(range(1, storm.emitted + 1))
            assert client.offsets == storm.clients[0].offsets
        for number in range(SERVERS):
            core = hub_of(nodes.servers[number]).directory.core("/")
            here = [client for client in storm.clients if client.hub is hub_of(nodes.servers[number])]
            assert {member.sid for member in core.index} == {client.sid for client in here}, (
                "nobody is at two servers"
            )


@pytest.mark.parametrize("turn", range(4))
async def test_nobody_misses_anything(rng: random.Random, turn: int) -> None:
    await storm(rng)
