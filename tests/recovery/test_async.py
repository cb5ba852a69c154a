"""``durability="async"``: a crash may lose the last events, but then all are told, and no offset comes twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from tests.interop.peer import MODES, Client, Peer, Received
from tests.interop.publishing import ROOM, Publisher, check, more, publishing
from tests.recovery.clients import Clients, came_back, come_back, numbers, publish, reason, state
from tests.recovery.conftest import SHORT_HEARTBEAT, Launch

pytestmark = [pytest.mark.node, pytest.mark.asyncio(loop_scope="module")]

KILLS = 8


def generation(event: Received) -> str:
    assert event.offset is not None
    return event.offset.partition(".")[0]


def position(event: Received) -> int:
    assert event.offset is not None
    return int(event.offset.partition(".")[2])


def check_honest(heard: Sequence[Received], publisher: Publisher) -> None:
    """Fail if anything was given twice, or lost anywhere but where the server was killed."""
    positions = [position(event) for event in heard]
    assert positions == sorted(set(positions))
    mine = [event for event in heard if event.args[0] == publisher.name]
    got = [event.args[1] for event in mine]
    assert got == sorted(set(got))
    for name in {generation(event) for event in mine}:
        within = [event.args[1] for event in mine if generation(event) == name]
        accepted = {number for number in publisher.accepted if within[0] <= number <= within[-1]}
        assert accepted <= set(within), "lost without a kill"


async def test_what_a_kill_may_have_lost_is_told(peer: Peer, launch: Launch) -> None:
    server = await launch(durability="async", **SHORT_HEARTBEAT)
    clients = Clients(peer, server)
    present, away = [[await clients.listen(mode) for mode in MODES] for _ in range(2)]
    speaker = await clients.connect()
    await publish(speaker, 0, 3)
    for listener in present + away:
        await listener.gets("news", 3)
    for listener in away:
        await listener.away()
    await publish(speaker, 3, 5)
    for listener in present:
        await listener.gets("news", 5)
    await server.restart("kill")
    for listener in present:
        await came_back(listener, 2, recovered=False)
        assert await reason(listener) == "generation"
    for listener in away:
        await come_back(listener, recovered=False)
        assert await reason(listener) == "generation"
    assert (await state(await clients.control()))["counters"]["recoveries"].get("recovered", 0) == 0
    # From then on it works as ever.
    await speaker.connected(2)
    await publish(speaker, 5, 6)
    for listener in present + away:
        await listener.hears("news", 5)
        await listener.away()
    await publish(speaker, 6, 8)
    for listener in present + away:
        await come_back(listener)
        await listener.hears("news", 7)
    for listener in present:
        assert numbers(listener) == list(range(8))
        assert len({event.offset for event in listener.received["news"]}) == 8
    assert [numbers(listener) for listener in away] == [[0, 1, 2, 5, 6, 7]] * len(away)


async def test_a_clean_restart_loses_nothing(peer: Peer, launch: Launch, rng: random.Random) -> None:
    server = await launch(durability="async", **SHORT_HEARTBEAT)
    clients = Clients(peer, server)
    listeners = [await clients.listen(mode) for mode in MODES]
    async with publishing(*[await clients.connect(mode) for mode in MODES]) as publishers:
        for times in (2, 3, 4):
            await more(rng.choice(listeners), rng.randrange(5, 30))
            await server.restart("stop")
            for listener in listeners:
                await came_back(listener, times)
    await check(publishers, *listeners)


@pytest.mark.long
async def test_kills_under_load_give_no_offset_twice(peer: Peer, launch: Launch, rng: random.Random) -> None:
    server = await launch(durability="async", **SHORT_HEARTBEAT)
    clients = Clients(peer, server)
    listeners: list[Client] = [await clients.listen(mode) for mode in MODES]
    async with publishing(await clients.connect(), await clients.connect("polling")) as publishers:
        for times in range(2, KILLS + 2):
            await asyncio.sleep(rng.uniform(0, 0.2))
            await server.kill()
            await server.start()
            for listener in listeners:
                await came_back(listener, times, recovered=False)
                await more(listener, 1)
    for listener in listeners:
        for publisher in publishers:
            await listener.hears("news", publisher.name, publisher.attempted - 1)
            check_honest(listener.received["news"], publisher)
        assert len({generation(event) for event in listener.received["news"]}) > 1
        assert await listener.call("rooms") == [[ROOM]]
    given = {event.offset: event.args for listener in listeners for event in listener.received["news"]}
    for listener in listeners:
        assert all(given[event.offset] == event.args for event in listener.received["news"])
