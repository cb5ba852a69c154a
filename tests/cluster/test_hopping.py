"""A client that comes to another server: its session goes with it, one life after the other."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

import waypost
from tests.cluster.nodes import Cluster, cluster
from tests.cluster.test_following import settle
from tests.server.model_client import ModelClient, hub_of, until
from waypost.server.recovery.crossing import Crossing
from waypost.server.recovery.handed import Handed
from waypost.storage.base import Journal


class Diaries:
    """Servers that note together what their application is told, in order.

    Attributes:
        told: The server's number and what it was told: the start of each handler, and its end with a full stop.
        sockets: The socket of each connect.
        answers: What calls to clients returned, or the error.
    """

    def __init__(self, **options: Any) -> None:
        self.told: list[tuple[int, str]] = []
        self.sockets: list[waypost.Socket] = []
        self.answers: list[Any] = []
        self._options = options
        self._open: dict[str, asyncio.Event] = {}

    def gate(self, what: str) -> asyncio.Event:
        """Return the event that a handler of this name waits for."""
        return self._open.setdefault(what, asyncio.Event())

    def make(self, number: int) -> waypost.Server:
        io = waypost.Server(drain_s=0.0, **self._options)

        async def passes(what: str) -> None:
            self.told.append((number, what))
            await asyncio.sleep(0)
            if what in self._open:
                await self._open[what].wait()
            self.told.append((number, f"{what}."))

        @io.on("connect")
        async def connect(socket: waypost.Socket) -> None:
            self.sockets.append(socket)
            await passes("connect")

        @io.on("disconnect")
        async def disconnect(socket: waypost.Socket, reason: str) -> None:
            await passes("disconnect")

        @io.on("work")
        async def work(socket: waypost.Socket, what: Any) -> None:
            await passes(str(what))

        @io.on("remember")
        async def remember(socket: waypost.Socket, name: str, value: Any) -> Any:
            before = socket.data.get(name)
            socket.data[name] = value
            return [before]

        @io.on("ask")
        async def ask(socket: waypost.Socket, timeout_s: float = 20) -> None:
            self.told.append((number, "ask"))
            try:
                answer = await socket.timeout(timeout_s).call("question", number)
            except waypost.WaypostError as problem:
                answer = type(problem).__name__
            socket.data["answer"] = answer
            self.answers.append(answer)
            self.told.append((number, "ask."))

        @io.on("session_expired")
        async def expired(session: waypost.EndedSession) -> None:
            self.told.append((number, f"expired {session.data}"))

        return io


def told(*handlers: tuple[int, str]) -> list[tuple[int, str]]:
    """Return what diaries say of handlers that ran one after the other."""
    return [line for number, name in handlers for line in ((number, name), (number, f"{name}."))]


async def hop(nodes: Cluster, client: ModelClient, number: int, *, notices: bool = True) -> None:
    """Let a client lose its line, and connect to another server."""
    if notices:
        await client.cut()
    else:
        client.vanish()
    nodes.send_to(client, number)
    await client.connect()


async def test_a_client_hops_at_every_reconnect_and_misses_nothing(rng: random.Random) -> None:
    emitted = 0

    async with cluster(3) as nodes:
        client, other = nodes.client(0), nodes.client(1)
        await client.connect()
        await other.connect()
        stop = asyncio.Event()

        async def emit() -> None:
            nonlocal emitted
            while not stop.is_set():
                emitted += 1
                await nodes.servers[emitted % 3].emit("news", emitted)

        emitting = asyncio.ensure_future(emit())
        at = 0
        for _ in range(30):
            at = (at + rng.randrange(1, 3)) % 3
            before = len(client.events)
            await hop(nodes, client, at, notices=rng.random() < 0.5)
            assert client.recovered
            if rng.random() < 0.7:
                await until(lambda before=before: len(client.events) > before)  # type: ignore[misc]
        stop.set()
        await emitting
        await settle(nodes)
        await other.wait_for(emitted)
        assert await client.wait_for(emitted) == [["news", number] for number in range(1, emitted + 1)]
        assert client.offsets == other.offsets


async def test_one_life_follows_the_other_over_servers() -> None:
    diaries = Diaries()
    first = diaries.gate("1")
    async with cluster(2, diaries.make) as nodes:
        client = nodes.client(0)
        await client.connect()
        for number in (1, 2, 3):
            client.send(f'2["work",{number}]')
        await until(lambda: (0, "1") in diaries.told)
        client.vanish()
        nodes.send_to(client, 1)
        client.open()
        for _ in range(100):
            await asyncio.sleep(0)
        assert diaries.told == [*told((0, "connect")), (0, "1")]
        first.set()
        await until(lambda: client.connected)
        client.send('2["work",4]')
        await until(lambda: (1, "4.") in diaries.told)
        assert client.recovered
        assert diaries.told == told(
            (0, "connect"), (0, "1"), (0, "2"), (0, "3"), (0, "disconnect"), (1, "connect"), (1, "4")
        )


async def test_data_and_rooms_go_along_and_back() -> None:
    diaries = Diaries()
    async with cluster(3, diaries.make) as nodes:
        client = nodes.client(0)
        await client.connect()
        for turn, number in enumerate((1, 2, 0, 1, 0)):
            assert await client.call("remember", "turn", turn) == [[turn - 1 if turn else None]]
            await diaries.sockets[-1].join(f"room {turn}")
            await hop(nodes, client, number)
            assert client.recovered
        assert diaries.sockets[-1].rooms == {client.sid, *(f"room {turn}" for turn in range(5))}
        await nodes.servers[2].to("room 0").emit("news")
        assert (await client.wait_for(1))[-1] == ["news"]
        # Nothing is left of what was asked for at each hop.
        for server in nodes.servers:
            assert not hub_of(server).directory.core("/").ownership._claiming


async def test_a_client_that_goes_on_before_it_was_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    diaries = Diaries()
    claims: list[Journal] = []
    claim = Crossing.claim

    async def note_and_claim(self: Crossing, journal: Journal, key: bytes) -> Handed | None:
        claims.append(journal)
        return await claim(self, journal, key)

    monkeypatch.setattr(Crossing, "claim", note_and_claim)
    first = diaries.gate("1")
    async with cluster(3, diaries.make) as nodes:
        client = nodes.client(0)
        await client.connect()
        client.send('2["work",1]')
        await until(lambda: (0, "1") in diaries.told)
        for asked, number in enumerate((1, 2, 0, 1, 2), 1):
            client.vanish()
            nodes.send_to(client, number)
            client.open()
            await until(lambda asked=asked: len(claims) == asked)  # type: ignore[misc]
            # Its claim is before the next one: this sees all that its node has asked for.
            await claims[-1].find_session(b"nobody")
        first.set()
        await until(lambda: client.connected)
        assert client.recovered
        assert diaries.told == told((0, "connect"), (0, "1"), (0, "disconnect"), (2, "connect"))
        await nodes.servers[0].emit("news")
        assert await client.wait_for(1) == [["news"]]
        for io, count in zip(nodes.servers, (0, 0, 1), strict=True):
            assert len(hub_of(io).directory.core("/").index) == count


async def test_a_handler_that_never_returns_holds_up_the_next_life_for_a_time_of_grace(
    caplog: pytest.LogCaptureFixture,
) -> None:
    diaries = Diaries(handler_grace_s=0.05)
    hanging = diaries.gate("1")
    async with cluster(2, diaries.make) as nodes:
        client = nodes.client(0)
        await client.connect()
        client.send('2["work",1]')
        await until(lambda: (0, "1") in diaries.told)
        await hop(nodes, client, 1, notices=False)
        assert client.recovered
        assert diaries.told == [*told((0, "connect")), (0, "1"), *told((0, "disconnect"), (1, "connect"))]
        assert "the handler of 'work' still runs" in caplog.text
        hanging.set()


async def test_a_frozen_server_is_not_waited_for_and_loses_the_client_when_it_goes_on() -> None:
    diaries = Diaries(handler_grace_s=0.05)
    async with cluster(2, diaries.make) as nodes:
        client = nodes.client(0)
        await client.connect()
        assert await client.call("remember", "a", 1) == [[None]]
        await settle(nodes)
        nodes.freeze(0)
        ghost = client.connection
        assert ghost is not None
        await hop(nodes, client, 1, notices=False)
        assert client.recovered
        assert await client.call("remember", "b", 2) == [[None]]
        # The ghost's socket changes nothing.
        diaries.sockets[0].data["a"] = "ghost"
        joining = asyncio.ensure_future(diaries.sockets[0].join("ghosts"))
        await nodes.servers[1].emit("news")
        await client.wait_for(1)
        assert ghost.is_open
        nodes.thaw(0)
        await until(lambda: not ghost.is_open and (0, "disconnect.") in diaries.told)
        await asyncio.wait({joining})
        await hop(nodes, client, 0)
        assert client.recovered
        assert await client.call("remember", "a", 3) == [[1]]
        assert diaries.sockets[-1].rooms == {client.sid}


async def test_a_dead_server_is_not_waited_for() -> None:
    diaries = Diaries()
    hanging = diaries.gate("1")
    async with cluster(2, diaries.make) as nodes:
        client = nodes.client(0)
        await client.connect()
        client.send('2["work",1]')
        await until(lambda: (0, "1") in diaries.told)
        await nodes.servers[1].emit("news", 1)
        await client.wait_for(1)
        nodes.kill(0)
        await nodes.servers[1].emit("news", 2)
        await hop(nodes, client, 1, notices=False)
        assert client.recovered
        assert await client.wait_for(2) == [["news", 1], ["news", 2]]
        hanging.set()


async def test_a_client_that_starts_anew_is_told_of_first() -> None:
    diaries = Diaries(recovery=waypost.Recovery(replay_max_events=1))
    first = diaries.gate("1")
    async with cluster(2, diaries.make) as nodes:
        client = nodes.client(0)
        await client.connect()
        client.send('2["work",1]')
        await until(lambda: (0, "1") in diaries.told)
        client.vanish()
        for number in range(3):
            await nodes.servers[1].emit("news", number)
        nodes.send_to(client, 1)
        client.open()
        for _ in range(100):
            await asyncio.sleep(0)
        assert diaries.told[-1] == (0, "1")
        first.set()
        await until(lambda: client.connected)
        assert client.answer["reason"] == "too far"
        assert diaries.told == told((0, "connect"), (0, "1"), (0, "disconnect"), (1, "connect"))


async def test_a_session_that_nobody_comes_back_to_is_told_of_once() -> None:
    diaries = Diaries(recovery=waypost.Recovery(session_ttl_s=1.0))
    async with cluster(3, diaries.make) as nodes:
        client = nodes.client(0)
        await client.connect()
        await hop(nodes, client, 1)
        await client.cut()
        await until(lambda: (1, "disconnect.") in diaries.told)
        deadline = asyncio.get_running_loop().time() + 30
        while not any(what.startswith("expired") for _, what in diaries.told):
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.05)
            for io in nodes.servers:
                await hub_of(io).keep_up()
        for io in nodes.servers:
            await hub_of(io).keep_up()
        assert [line for line in diaries.told if line[1].startswith("expired")] == [(1, "expired {}")]
        # Also where it was before, it is known to be gone for good.
        with pytest.raises(waypost.NotConnected):
            await diaries.sockets[0].emit("news")
