"""Clients that hop between servers at random: nobody misses or doubles anything, and no two lives overlap."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from typing import Any

import pytest

import waypost
from tests.cluster.nodes import Cluster, cluster
from tests.server.model_client import ModelClient, hub_of, running, until

SERVERS = 3
CLIENTS = 6
STEPS = 150
ROOMS = ("red", "blue")
TURNS = [0, *(pytest.param(turn, marks=pytest.mark.long) for turn in range(1, 10))]


class Applications:
    """The applications of all servers.

    Args:
        rng: What decides how long handlers take.
        grace_s: The servers' ``handler_grace_s``.

    Attributes:
        lives: For each socket id, what the application was told, in order.
        calls: How many calls to clients were made.
        answers: What they returned, or the error's name.
    """

    def __init__(self, rng: random.Random, grace_s: float) -> None:
        self.lives: dict[str, list[str]] = {}
        self.calls = 0
        self.answers: list[Any] = []
        self._rng = rng
        self._grace_s = grace_s

    def make(self, number: int) -> waypost.Server:
        io = waypost.Server(drain_s=0.0, handler_grace_s=self._grace_s)

        async def live(socket: waypost.Socket, what: str) -> None:
            told = self.lives.setdefault(socket.id, [])
            told.append(what)
            for _ in range(self._rng.randrange(5)):
                await asyncio.sleep(0)
            told.append(f"{what}.")

        @io.on("connect")
        async def connect(socket: waypost.Socket) -> None:
            await live(socket, "connect")

        @io.on("disconnect")
        async def disconnect(socket: waypost.Socket, reason: str) -> None:
            await live(socket, "disconnect")

        @io.on("ask")
        async def ask(socket: waypost.Socket) -> None:
            if not socket.connected:
                return
            self.calls += 1
            try:
                self.answers.append(await socket.call("question"))
            except waypost.WaypostError as problem:
                self.answers.append(type(problem).__name__)

        return io


class Storm:
    """What is done to the servers and the clients, and what comes of it.

    Attributes:
        expected: For each client, the events that it must show, in order.
    """

    def __init__(self, nodes: Cluster, apps: Applications, rng: random.Random, stack: AsyncExitStack) -> None:
        self.clients: list[ModelClient] = []
        self.expected: dict[ModelClient, list[int]] = {}
        self._nodes = nodes
        self._apps = apps
        self._rng = rng
        self._stack = stack
        self._rooms: dict[ModelClient, set[str]] = {}
        self._frozen: set[int] = set()
        self._emitted = 0

    async def begin(self) -> None:
        """Let the clients connect."""
        for number in range(CLIENTS):
            client = self._nodes.client(number % SERVERS)
            await client.connect()
            self.clients.append(client)
            self.expected[client], self._rooms[client] = [], set()

    async def step(self, *, faults: bool) -> None:
        """Do something."""
        calm = [self.emit, self.hop, self.move, self.ask, self.pause]
        wild = [self.freeze, self.thaw, self.kill] if faults else []
        weights = [10, 8, 4, 3, 4, 1, 2, 0.5]
        [what] = self._rng.choices([*calm, *wild], weights[: len(calm) + len(wild)])
        await what()

    def _server(self) -> int:
        """Return a server that is neither frozen nor dead."""
        return self._rng.choice([number for number in range(SERVERS) if number not in self._frozen])

    async def emit(self) -> None:
        """Emit to all, to a room, or to all others."""
        self._emitted += 1
        io, room = self._nodes.servers[self._server()], self._rng.choice(ROOMS)
        inside = [client for client in self.clients if room in self._rooms[client]]
        whom, to = self._rng.choice(
            [
                (self.clients, io.except_()),
                (inside, io.to(room)),
                ([client for client in self.clients if client not in inside], io.except_(room)),
            ]
        )
        await to.emit("news", self._emitted)
        for client in whom:
            self.expected[client].append(self._emitted)

    async def move(self) -> None:
        """Let a client join or leave a room, wherever it is."""
        client, room = self._rng.choice(self.clients), self._rng.choice(ROOMS)
        assert client.sid
        one = self._nodes.servers[self._server()].in_(client.sid)
        if room in self._rooms[client]:
            await one.sockets_leave(room)
            self._rooms[client].remove(room)
        else:
            await one.sockets_join(room)
            self._rooms[client].add(room)

    async def hop(self) -> None:
        """Let a client lose its line, noticed or not, and connect to another server."""
        client = self._rng.choice(self.clients)
        if self._rng.random() < 0.5:
            await client.cut()
        else:
            client.vanish()
        self._nodes.send_to(client, self._server())
        client.open()

    async def ask(self) -> None:
        """Let a client's handler call the client."""
        client = self._rng.choice(self.clients)
        if client.connected:
            client.send('2["ask"]')

    async def pause(self) -> None:
        """Let some things happen."""
        for _ in range(self._rng.randrange(30)):
            await asyncio.sleep(0)

    async def freeze(self) -> None:
        """Let a server see nothing more of the store."""
        if not self._frozen:
            self._frozen.add(self._rng.randrange(SERVERS))
            self._nodes.freeze(*self._frozen)

    async def thaw(self) -> None:
        """Let the frozen server go on."""
        for number in self._frozen:
            self._nodes.thaw(number)
        self._frozen.clear()

    async def kill(self) -> None:
        """Kill a server, and let another one take its place."""
        number = self._rng.randrange(SERVERS)
        self._frozen.discard(number)
        dead = hub_of(self._nodes.servers[number])
        self._nodes.kill(number)
        io = self._apps.make(number)
        self._nodes.replace(number, io)
        await self._stack.enter_async_context(running(io))
        for client in self.clients:
            if client.hub is dead:
                client.vanish()
                self._nodes.send_to(client, self._server())
                client.open()

    async def end(self) -> None:
        """Let all clients connect once more, and check what they have shown."""
        await self.thaw()
        for client in self.clients:
            await client.cut()
            self._nodes.send_to(client, self._server())
            await client.connect()
            assert client.recovered, client.answer
        for client in self.clients:
            await until(lambda client=client: len(news(client)) >= len(self.expected[client]))  # type: ignore[misc]
        for client in self.clients:
            assert news(client) == self.expected[client]
        for io in self._nodes.servers:
            here = {client.sid for client in self.clients if client.hub is hub_of(io)}
            assert {member.sid for member in hub_of(io).directory.core("/").index} == here, "nobody is at two servers"


def news(client: ModelClient) -> list[int]:
    return [event[1] for event in client.events if event[0] == "news"]


async def storm(rng: random.Random, *, faults: bool) -> Applications:
    """Run a storm; returns what the applications were told until its end."""
    # A frozen server is not waited for any longer than this.
    apps = Applications(rng, grace_s=0.02 if faults else 10)
    async with AsyncExitStack() as stack:
        nodes = await stack.enter_async_context(cluster(SERVERS, apps.make))
        storm = Storm(nodes, apps, rng, stack)
        await storm.begin()
        for _ in range(STEPS):
            await storm.step(faults=faults)
        await storm.end()
        if not faults:
            await until(lambda: len(apps.answers) == apps.calls)
    return apps


@pytest.mark.parametrize("turn", TURNS)
async def test_nobody_misses_anything_while_servers_freeze_and_die(rng: random.Random, turn: int) -> None:
    await storm(rng, faults=True)


@pytest.mark.parametrize("turn", TURNS)
async def test_lives_follow_each_other_and_calls_are_answered(rng: random.Random, turn: int) -> None:
    judge(await storm(rng, faults=False))


def judge(apps: Applications) -> None:
    """Check that no two lives of a session overlapped, and that all calls were answered."""
    life = ["connect", "connect.", "disconnect", "disconnect."]
    for told in apps.lives.values():
        assert told == life * (len(told) // 4)
    assert set(apps.answers) <= {None}
