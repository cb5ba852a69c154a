"""A replay is what the client would have got had it stayed: by its rooms at each event, whoever changed them."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field

import pytest

from tests.interop.peer import Client, Peer
from tests.recovery.clients import Clients, came_back, come_back, numbers
from tests.recovery.conftest import SHORT_HEARTBEAT, Launch

pytestmark = [pytest.mark.node, pytest.mark.asyncio(loop_scope="module")]

SERVER_OPTIONS = {"ping_interval_s": 1, "ping_timeout_s": 2}

ROOMS = ["red", "green", "blue", "all"]
STEPS = 120


@dataclass
class Member:
    """A client, and what it should be in and get."""

    client: Client
    rooms: set[str]
    expected: list[int] = field(default_factory=list)
    is_away: bool = False

    @property
    def sid(self) -> str:
        return self.client.connects[0].id or ""

    def is_in(self, rooms: Collection[str]) -> bool:
        return not ({*self.rooms, self.sid}.isdisjoint(rooms))


class Crowd:
    """Members who come and go, join and leave, at random; `check` compares what they got with what they should."""

    def __init__(self, members: list[Member], driver: Client, rng: random.Random) -> None:
        self._members = members
        self._driver = driver
        self._rng = rng
        self._number = 0

    async def step(self) -> None:
        """Do something at random."""
        steps: list[Callable[[Member], Awaitable[None]]] = [
            self._emit,
            self._emit_from,
            self._move,
            self._change,
            self._come_or_go,
        ]
        await self._rng.choices(steps, [6, 3, 2, 2, 2])[0](self._rng.choice(self._members))

    async def check(self) -> None:
        """Bring everyone back, and fail unless each got exactly what was meant for it."""
        for member in self._members:
            if member.is_away:
                await self._come_or_go(member)
        await self._driver.call("publish", "all", self._number)
        for member in self._members:
            if "all" in member.rooms:
                member.expected.append(self._number)
            await member.client.gets("news", len(member.expected))
            assert await member.client.call("rooms") == [sorted(member.rooms)]
            assert numbers(member.client) == member.expected

    def _pick(self, least: int, most: int) -> list[str]:
        return self._rng.sample(ROOMS, self._rng.randint(least, most))

    async def _emit(self, _member: Member) -> None:
        rooms, excluded = self._pick(1, 2), self._pick(0, 1)
        await self._driver.call("publish_except", rooms, excluded, self._number)
        self._expect(lambda member: member.is_in(rooms) and not member.is_in(excluded))

    async def _emit_from(self, sender: Member) -> None:
        rooms = self._pick(1, 2)
        if sender.is_away:
            await self._driver.call("publish_as", sender.sid, rooms, self._number)
        else:
            await sender.client.call("publish_from", rooms, self._number)
        self._expect(lambda member: member.is_in(rooms) and member is not sender)

    async def _move(self, moved: Member) -> None:
        """Change the rooms of some by the server, be they here or away."""
        how, rooms = self._rng.choice(["join", "leave"]), set(self._pick(1, 2))
        members = self._rng.choice([[moved.sid], self._pick(1, 2)])
        excluded = self._rng.choice([[], self._pick(1, 1)])
        await self._driver.call("move", how, members, excluded, *rooms)
        for member in self._members:
            if member.is_in(members) and not member.is_in(excluded):
                member.rooms = member.rooms | rooms if how == "join" else member.rooms - rooms

    async def _change(self, member: Member) -> None:
        if member.is_away:
            return
        how, rooms = self._rng.choice(["join", "leave"]), set(self._pick(1, 2))
        await member.client.call(how, *rooms)
        member.rooms = member.rooms | rooms if how == "join" else member.rooms - rooms

    async def _come_or_go(self, member: Member) -> None:
        if member.is_away:
            await come_back(member.client)
        else:
            await member.client.away()
        member.is_away = not member.is_away

    def _expect(self, is_meant: Callable[[Member], bool]) -> None:
        for member in self._members:
            if is_meant(member):
                member.expected.append(self._number)
        self._number += 1


async def make_crowd(clients: Clients, rng: random.Random) -> Crowd:
    members = []
    for mode in ("polling", "websocket", "upgrade", "websocket"):
        rooms = rng.sample(ROOMS, 2)
        members.append(Member(await clients.connect(mode, auth={"rooms": rooms}), set(rooms)))
    return Crowd(members, await clients.connect(), rng)


@pytest.mark.parametrize("round_number", range(4))
async def test_random_rooms(clients: Clients, rng: random.Random, round_number: int) -> None:
    crowd = await make_crowd(clients, rng)
    for _ in range(STEPS):
        await crowd.step()
    await crowd.check()


@pytest.mark.parametrize("store", [None, "memory:"], ids=["sqlite", "memory"])
async def test_what_the_server_does_while_it_is_away(
    peer: Peer, launch: Launch, mode: str, store: str | None
) -> None:
    clients = Clients(peer, await launch(store=store))
    client, driver = await clients.connect(mode, auth={"rooms": ["left"]}), await clients.connect()
    sid = client.connects[0].id
    await client.away()
    await driver.call("publish", "left", 0)
    await driver.call("publish", "joined", "before it joined")
    await driver.call("move", "join", [sid], [], "joined")
    await driver.call("publish", "joined", 1)
    await driver.call("move", "leave", ["joined"], [], "left")
    await driver.call("publish", "left", "after it left")
    await driver.call("publish_except", ["left", "joined"], [], 2)
    await driver.call("publish_except", ["joined"], [sid], "excluded by its id")
    await driver.call("publish_as", sid, ["joined"], "its own")
    await come_back(client)
    await driver.call("publish", "joined", 3)
    await client.gets("news", 4)
    assert numbers(client) == [0, 1, 2, 3]
    assert await client.call("rooms") == [["joined"]]


async def test_rooms_outlive_a_kill(peer: Peer, launch: Launch, mode: str) -> None:
    clients = Clients(peer, server := await launch(**SHORT_HEARTBEAT))
    client, driver = await clients.connect(mode, auth={"rooms": ["first"]}), await clients.connect()
    await client.call("join", "second", "third")
    await client.call("leave", "first", "third")
    await driver.call("move", "join", ["second"], [], "fourth")
    await client.pause()
    await server.restart("kill")
    await client.disconnected()
    await came_back(driver, 2)
    for number, room in enumerate(["first", "second", "third", "fourth"]):
        await driver.call("publish", room, number)
    await driver.call("move", "leave", ["fourth"], [], "second")
    await driver.call("publish", "second", "after it left")
    await server.restart("kill")
    await came_back(driver, 3)
    await come_back(client)
    await driver.call("publish_except", ["second", "fourth"], ["first"], 9)
    await client.gets("news", 3)
    assert numbers(client) == [1, 3, 9]
    assert await client.call("rooms") == [["fourth"]]


async def test_who_was_excluded_then_stays_so(clients: Clients, mode: str) -> None:
    client, driver = await clients.connect(mode, auth={"rooms": ["room", "muted"]}), await clients.connect()
    await client.away()
    await driver.call("publish_except", ["room"], ["muted"], "while it was muted")
    await come_back(client)
    await client.call("leave", "muted")
    await client.away()
    await driver.call("publish_except", ["room"], ["muted"], 1)
    await come_back(client)
    await client.call("join", "muted")
    await client.away()
    await come_back(client)
    assert await client.gets("news") == [(1,)]


async def test_the_same_rooms_in_two_namespaces(clients: Clients, mode: str) -> None:
    main = await clients.connect(mode, auth={"rooms": ["room"]})
    other = await clients.connect(mode, namespace="/other", share=main)
    driver, other_driver = await clients.connect(), await clients.connect(namespace="/other")
    await other.call("join", "room", "only here")
    await main.away()
    await other.disconnected()
    await driver.call("publish", "room", "main 1")
    await other_driver.call("publish", "room", "other 1")
    await driver.call("publish", "only here", "nobody")
    await driver.call("move", "leave", ["room"], [], "room")
    await other_driver.call("publish", "room", "other 2")
    await driver.call("publish", "room", "nobody")
    await come_back(main)
    await came_back(other, 2)
    await other_driver.call("publish", "only here", "other 3")
    await other.gets("news", 3)
    assert numbers(other) == ["other 1", "other 2", "other 3"]
    assert numbers(main) == ["main 1"]
    assert await main.call("rooms") == [[]]
    assert await other.call("rooms") == [["only here", "room"]]
