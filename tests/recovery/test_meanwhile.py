"""Events emitted while a recovery is under way: none is lost between what is replayed and what is live."""

from __future__ import annotations

import random

import pytest

from tests.interop.publishing import ROOM, check, more, publishing
from tests.recovery.clients import Clients, came_back, come_back, held, numbers, publish
from tests.support.link import Link
from tests.support.waiting import until

pytestmark = [pytest.mark.node, pytest.mark.asyncio(loop_scope="module")]

SERVER_OPTIONS = {"ping_interval_s": 1, "ping_timeout_s": 2, "handler_grace_s": 0.3}

STEPS = ["middleware", "connect"]


@pytest.mark.parametrize("step", STEPS)
async def test_events_while_a_handler_waits(clients: Clients, mode: str, step: str) -> None:
    gate = f"waits {step} {mode}"
    client, speaker, control = await clients.listen(mode), await clients.connect(), await clients.control()
    await publish(speaker, 0, 1)
    await client.gets("news", 1)
    await client.away()
    await publish(speaker, 1, 3)
    await client.resume({"hold": {step: gate}})
    await held(control, gate)
    await publish(speaker, 3, 6)
    assert numbers(client) == [0]
    await control.call("open", gate)
    await publish(speaker, 6, 8)
    await came_back(client, 2)
    await client.gets("news", 8)
    assert numbers(client) == list(range(8))


@pytest.mark.parametrize("step", STEPS)
async def test_cut_again_while_a_handler_waits(clients: Clients, mode: str, step: str) -> None:
    gate = f"cut {step} {mode}"
    client, speaker, control = await clients.listen(mode), await clients.connect(), await clients.control()
    await client.away()
    await publish(speaker, 0, 2)
    await client.resume({"hold": {step: gate}})
    for times in (1, 2, 3):
        await held(control, gate, times)
        await publish(speaker, 2 * times, 2 * times + 2)
        await client.cut()
    await held(control, gate, 4)
    await control.call("open", gate)
    await came_back(client, 2)
    await client.gets("news", 8)
    await publish(speaker, 8, 10)
    await client.gets("news", 10)
    assert numbers(client) == list(range(10))
    assert await client.call("rooms") == [[ROOM]]


async def test_the_connect_handler_emits_to_whom_it_recovers(clients: Clients, mode: str) -> None:
    client, speaker = await clients.listen(mode), await clients.connect()
    await client.away()
    await publish(speaker, 0, 3)
    await come_back(client, auth={"greetings": 2})
    await publish(speaker, 3, 4)
    await client.gets("news", 6)
    assert client.args_of("news") == [(0,), (1,), (2,), ("greeting", 0), ("greeting", 1), (3,)]
    await client.away()
    await come_back(client, auth={})
    await publish(speaker, 4, 5)
    await client.hears("news", 4)
    assert len(client.received["news"]) == 7


async def test_events_while_a_big_replay_is_sent(clients: Clients, mode: str) -> None:
    speakers = [await clients.connect(), await clients.connect()]
    async with Link.to(clients.server.port, lambda: 0.01) as link:
        client, bystander = await clients.listen(mode, url=link.url), await clients.listen()
        await client.away()
        await speakers[0].call("publish_many", ROOM, 0, 2000, 1000)
        async with publishing(*speakers) as publishers:
            await client.resume()
            await came_back(client, 2)
            assert len(client.received["news"]) < 2000, "the replay is over too soon to test anything"
            await more(client, 2200)
        for listener in (client, bystander):
            await listener.gets("news", 2000)
            assert numbers(listener)[:2000] == list(range(2000))
            del listener.received["news"][:2000]
        await check(publishers, client, bystander)


@pytest.mark.long
@pytest.mark.parametrize("round_number", range(4))
async def test_events_while_it_upgrades(clients: Clients, rng: random.Random, round_number: int) -> None:
    longest_s = rng.choice([0.001, 0.005, 0.02])
    speakers = [await clients.connect(), await clients.connect()]
    async with Link.to(clients.server.port, lambda: rng.uniform(0, longest_s)) as link:
        listeners = [await clients.listen("upgrade", url=link.url) for _ in range(4)]
        for listener in listeners:
            await listener.away()
        async with publishing(*speakers) as publishers:
            await until(lambda: len(publishers[0].accepted) >= 20, "twenty events are missed")
            for listener in listeners:
                listener.upgrades.clear()
                await listener.resume()
                await came_back(listener, 2)
                await listener.upgraded()
        await check(publishers, *listeners)
        assert [len(listener.connects) for listener in listeners] == [2, 2, 2, 2]


@pytest.mark.long
@pytest.mark.parametrize("round_number", range(3))
async def test_cut_while_it_upgrades(clients: Clients, rng: random.Random, round_number: int) -> None:
    speaker = await clients.connect()
    async with Link.to(clients.server.port, lambda: rng.uniform(0, 0.005)) as link:
        listeners = [await clients.listen("upgrade", url=link.url) for _ in range(4)]
        async with publishing(speaker) as publishers:
            for _ in range(5):
                await more(rng.choice(listeners), rng.randrange(1, 20))
                link.cut()
        await check(publishers, *listeners)
    for listener in listeners:
        assert all(state.recovered for state in listener.connects[1:])
