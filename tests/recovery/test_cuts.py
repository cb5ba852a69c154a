"""Cuts at which Node's own recovery fails: before the first event, often, early, and beside strings."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.interop.peer import Client
from tests.interop.publishing import ROOM
from tests.recovery.clients import Clients, came_back, come_back, numbers, publish, state
from tests.support.link import Link
from tests.support.waiting import until_async

pytestmark = [pytest.mark.node, pytest.mark.asyncio(loop_scope="module")]

SERVER_OPTIONS = {"ping_interval_s": 0.4, "ping_timeout_s": 0.8}


async def publish_until_heard(speaker: Client, kind: str, client: Client, *args: Any) -> None:
    """Emit an event to the room, again if need be: a volatile one is lost between two polls."""

    async def emit() -> bool:
        await speaker.call(kind, ROOM, *args)
        return args in client.args_of("news")

    await until_async(emit, bool, f"{kind} of {args}")


async def test_a_client_that_has_not_got_an_event_yet(clients: Clients, mode: str) -> None:
    client, speaker = await clients.listen(mode), await clients.connect()
    assert (await client.state()).offset is None
    await client.away()
    await publish(speaker, 0, 3)
    await come_back(client)
    await client.gets("news", 3)
    assert numbers(client) == [0, 1, 2]


@pytest.mark.parametrize("before", [0, 2], ids=["no event ever", "events before"])
async def test_two_cuts_without_an_event_between(clients: Clients, mode: str, before: int) -> None:
    client, speaker = await clients.listen(mode), await clients.connect()
    await publish(speaker, 0, before)
    await client.gets("news", before)
    for _ in range(2):
        await client.away()
        await come_back(client)
    await client.away()
    await publish(speaker, before, before + 2)
    await come_back(client)
    await client.gets("news", before + 2)
    assert numbers(client) == list(range(before + 2))


@pytest.mark.long
async def test_twenty_cuts_in_a_row(clients: Clients, mode: str, rng: random.Random) -> None:
    client, speaker = await clients.listen(mode), await clients.connect()
    published = 0
    for times in range(2, 22):
        until = published + rng.randrange(4)
        await client.cut(rng.choice(["close", "reset"]))
        await publish(speaker, published, until)
        published = until
        await came_back(client, times)
    await publish(speaker, published, published + 1)
    await client.gets("news", published + 1)
    assert numbers(client) == list(range(published + 1))


@pytest.mark.parametrize("kind", ["publish", "publish_volatile"])
async def test_a_string_as_the_last_argument_just_before_the_cut(clients: Clients, mode: str, kind: str) -> None:
    client, speaker = await clients.listen(mode), await clients.connect()
    for number, text in enumerate(["", "a string", "1.7", "g.99999999"]):
        await publish_until_heard(speaker, kind, client, 2 * number, text)
        await client.away()
        await speaker.call("publish", ROOM, 2 * number + 1, text)
        await come_back(client)
        await client.hears("news", 2 * number + 1, text)
    assert list(dict.fromkeys(numbers(client))) == list(range(8))
    offsets = [event.offset for event in client.received["news"] if event.args[0] % 2]
    assert len(set(offsets)) == 4


async def test_a_volatile_event_moves_nothing_past_what_was_missed(clients: Clients, mode: str) -> None:
    client, speaker = await clients.listen(mode), await clients.connect()
    await publish(speaker, 0, 1)
    await client.gets("news", 1)
    await client.away()
    await publish(speaker, 1, 2)
    await speaker.call("publish_volatile", ROOM, "lost", "as volatile events are")
    await come_back(client)
    await client.gets("news", 2)
    # The first thing it gets live is volatile: were its offset wrong, the next recovery would repeat or skip.
    await publish_until_heard(speaker, "publish_volatile", client, "seen", "text")
    await client.away()
    await publish(speaker, 2, 3)
    await come_back(client)
    await client.hears("news", 2)
    assert [number for number in numbers(client) if number != "seen"] == [0, 1, 2]
    assert numbers(client)[-2:] == ["seen", 2]


@pytest.mark.long
async def test_back_five_times_before_the_server_noticed(clients: Clients, mode: str) -> None:
    speaker, control = await clients.connect(), await clients.control()
    async with Link.to(clients.server.port) as link:
        client = await clients.listen(mode, url=link.url)
        for times in range(2, 7):
            link.freeze()
            await publish(speaker, 2 * times, 2 * times + 1)
            await client.cut()
            await came_back(client, times)
            await publish(speaker, 2 * times + 1, 2 * times + 2)
        await client.gets("news", 10)
        await client.pinged(6)  # longer than the server can have taken the dead connections for alive

        async def connections() -> int:
            return int((await state(control))["connections"])

        await until_async(connections, lambda count: count == 3, "the dead connections are gone")
        await publish(speaker, 14, 15)
        await client.gets("news", 11)
        assert numbers(client) == list(range(4, 15))
        assert await client.call("rooms") == [[ROOM]]
        assert len(client.connects) == 6


async def test_the_old_connection_wakes_up_late(clients: Clients) -> None:
    """What the old connection still had in its pipe comes out after the client was taken over, and harms nothing."""
    speaker = await clients.connect()
    async with Link.to(clients.server.port) as old_link, Link.to(clients.server.port) as new_link:
        client = await clients.listen(url=old_link.url)
        twin = await clients.connect(url=new_link.url)
        before = client.connects[0]
        await publish(speaker, 0, 1)
        await client.gets("news", 1)
        await client.pause()
        old_link.freeze()
        # The same session comes over another link while the first link still holds its connection.
        await twin.away()
        await twin.forge(before.pid, client.received["news"][0].offset)
        await publish(speaker, 1, 2)
        await twin.resume()
        assert (await twin.connected(2)).recovered
        old_link.cut()
        await twin.pinged(4)
        await publish(speaker, 2, 3)
        await twin.gets("news", 2)
        assert numbers(twin) == [1, 2]
        assert await twin.call("rooms") == [[ROOM]]
