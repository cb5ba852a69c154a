"""A client that was cut off gets what it missed: once, in order, and with `recovered` true."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from tests.interop.conftest import Connect
from tests.interop.peer import Client, Peer
from tests.interop.publishing import ROOM, check, more, publishing
from tests.support.link import Link
from tests.support.server_process import ServerProcess

pytestmark = [pytest.mark.node, pytest.mark.asyncio(loop_scope="module")]

# A client whose WebSocket dies just before the upgrade's end has stopped polling: only its heartbeat wakes it.
SERVER_OPTIONS = {"ping_interval_s": 1.5, "ping_timeout_s": 3}

IN_ROOM: dict[str, Any] = {"rooms": [ROOM]}


async def publish(client: Client, first: int, last: int) -> None:
    """Publish numbers to the room, each accepted before the next."""
    for number in range(first, last):
        await client.call("publish", ROOM, number)


def numbers(client: Client) -> list[Any]:
    """Return the first argument of each of the client's news."""
    return [args[0] for args in client.args_of("news")]


async def come_back(client: Client) -> None:
    """Reconnect after `Client.away`, which must be a recovery."""
    times = len(client.connects)
    await client.resume()
    before, after = client.connects[times - 1], await client.connected(times + 1)
    assert after.recovered
    assert (after.id, after.pid) == (before.id, before.pid)


@pytest.mark.parametrize("before", [0, 3], ids=["nothing before", "something before"])
async def test_what_was_missed_is_replayed(connect: Connect, mode: str, before: int) -> None:
    client = await connect(mode, auth=IN_ROOM)
    other = await connect()
    await publish(other, 0, before)
    await client.gets("news", before)
    await client.away()
    await publish(other, before, before + 3)
    await come_back(client)
    await publish(other, before + 3, before + 5)
    await client.gets("news", before + 5)
    assert numbers(client) == list(range(before + 5))


async def test_an_absence_in_which_nothing_happened(connect: Connect, mode: str) -> None:
    client = await connect(mode, auth=IN_ROOM)
    await client.away()
    await come_back(client)
    await publish(await connect(), 0, 1)
    assert await client.gets("news") == [(0,)]


async def test_everything_addressed_to_it_is_replayed(connect: Connect, mode: str) -> None:
    client = await connect(mode, auth=IN_ROOM)
    other = await connect()
    await client.away()
    await other.call("announce", "to all", {"b": [b"\x00\xff"]})
    await other.call("whisper", client.connects[0].id, "to one", b"")
    await other.call("broadcast", [ROOM], [], True, "from a socket")
    await other.call("broadcast", [ROOM], [client.connects[0].id], False, "but not to it")
    await other.call("publish", "elsewhere", "not its room")
    await come_back(client)
    assert await client.gets("news", 3) == [
        ("to all", {"b": [b"\x00\xff"]}),
        ("to one", b""),
        ("from a socket",),
    ]
    await publish(other, 9, 10)
    await client.gets("news", 4)
    assert numbers(client)[3:] == [9]


async def test_two_absences_in_a_row(connect: Connect, mode: str) -> None:
    client = await connect(mode, auth=IN_ROOM)
    other = await connect()
    await publish(other, 0, 2)
    await client.away()
    await publish(other, 2, 4)
    await come_back(client)
    await client.away()
    await publish(other, 4, 6)
    await come_back(client)
    await client.gets("news", 6)
    assert numbers(client) == list(range(6))


@pytest.mark.long
async def test_cut_again_while_it_is_replayed_to(connect: Connect, mode: str, rng: random.Random) -> None:
    client = await connect(mode, auth=IN_ROOM)
    other = await connect()
    await client.away()
    await publish(other, 0, 1000)
    for times in range(2, 7):
        await client.resume()
        assert (await client.connected(times)).recovered
        await client.gets("news", min(1000, len(client.received["news"]) + rng.randrange(200)))
        await client.away()
    await come_back(client)
    await client.gets("news", 1000)
    assert numbers(client) == list(range(1000))


@pytest.mark.long
async def test_cuts_while_others_publish(
    peer: Peer, server: ServerProcess, connect: Connect, mode: str, rng: random.Random
) -> None:
    cut_off = await connect(mode, auth=IN_ROOM)
    bystander = await connect(auth=IN_ROOM)
    async with publishing(await connect(), await connect("polling")) as publishers:
        for times in range(2, 8):
            await more(cut_off, rng.randrange(20))
            await cut_off.cut(rng.choice(["close", "reset"]))
            assert (await cut_off.connected(times)).recovered
    await check(publishers, cut_off, bystander)
    assert bystander.disconnects == []


@pytest.mark.long
async def test_cuts_in_the_middle_of_everything(
    peer: Peer, server: ServerProcess, connect: Connect, mode: str, rng: random.Random
) -> None:
    listeners = []
    async with Link.to(server.port, lambda: rng.uniform(0, 0.004)) as link:
        for _ in range(4):
            listeners.append(await connect(mode, url=link.url, auth=IN_ROOM))
        async with publishing(await connect(), await connect()) as publishers:
            for _ in range(6):
                await more(rng.choice(listeners), rng.randrange(30))
                link.cut()
        await check(publishers, *listeners)


@pytest.mark.parametrize("offset", [None, "0.0", "nonsense", "1.999999999"])
async def test_an_unknown_pid_gets_a_new_session(connect: Connect, mode: str, offset: str | None) -> None:
    client = await connect(mode, auth=IN_ROOM)
    other = await connect()
    await publish(other, 0, 2)
    await client.gets("news", 2)
    await client.away()
    await publish(other, 2, 4)
    await client.forge("unknown", offset)
    await client.resume()
    fresh = await client.connected(2)
    assert not fresh.recovered
    assert fresh.id != client.connects[0].id
    assert fresh.pid not in (client.connects[0].pid, "unknown")
    await publish(other, 4, 6)
    await client.gets("news", 4)
    assert numbers(client) == [0, 1, 4, 5]


async def test_a_stale_offset_beside_a_new_pid_brings_nothing_old(connect: Connect, mode: str) -> None:
    client = await connect(mode, auth=IN_ROOM)
    other = await connect()
    await publish(other, 0, 2)
    await client.gets("news", 2)
    stale = client.received["news"][0].offset
    await client.away()
    await publish(other, 2, 4)
    await client.forge("unknown", stale)
    await client.resume()
    assert not (await client.connected(2)).recovered
    await client.away()
    await publish(other, 4, 6)
    await come_back(client)
    await client.gets("news", 4)
    assert numbers(client) == [0, 1, 4, 5]


async def test_rooms_and_data_come_back(connect: Connect, mode: str) -> None:
    client = await connect(mode, auth=IN_ROOM)
    await client.call("join", "later")
    await client.call("leave", ROOM)
    await client.call("remember", "name", {"nested": [1, "ü", None]})
    await client.away()
    await come_back(client)
    assert await client.call("rooms") == [["later"]]
    assert await client.call("recall") == [{"name": {"nested": [1, "ü", None]}}]


async def test_the_replay_follows_membership(connect: Connect, mode: str) -> None:
    client = await connect(mode, auth=IN_ROOM)
    other = await connect()
    await client.away()
    await other.call("publish", "later", "before it joined")
    await publish(other, 0, 1)
    await come_back(client)
    await client.call("join", "later")
    await client.call("leave", ROOM)
    await publish(other, 1, 2)
    await client.away()
    await other.call("publish", "later", "after it joined")
    await publish(other, 2, 3)
    await come_back(client)
    await client.gets("news", 2)
    assert await client.call("echo", 1) == [1]
    assert numbers(client) == [0, "after it joined"]


async def test_namespaces_recover_each_on_its_own(connect: Connect, mode: str) -> None:
    main = await connect(mode, auth=IN_ROOM)
    other = await connect(mode, namespace="/other", share=main)
    publisher = await connect()
    publisher_of_other = await connect(namespace="/other")
    await main.away()
    await other.disconnected()
    await publish(publisher, 0, 2)
    await publisher_of_other.call("publish", "in other")
    await other.forge("unknown", None)
    await main.resume()
    assert (await main.connected(2)).recovered
    assert not (await other.connected(2)).recovered
    await publisher_of_other.call("publish", "later in other")
    assert await other.gets("news") == [("later in other",)]
    await main.gets("news", 2)
    assert numbers(main) == [0, 1]


async def test_a_goodbye_ends_the_session(connect: Connect, mode: str) -> None:
    client = await connect(mode, auth=IN_ROOM)
    other = await connect()
    await client.disconnect()
    await client.disconnected()
    assert (await other.call("echo", 1)) == [1]
    await client.resume()
    assert not (await client.connected(2)).recovered


async def test_a_call_outlives_a_cut(connect: Connect, mode: str) -> None:
    client = await connect(mode, rules={"question": "hold"})
    other = await connect()
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(other.call("ask_another", client.connects[0].id))
        await client.gets("question")
        await client.away()
        await come_back(client)
        await client.gets("question", 2)
        await client.ack(client.received["question"][1], "answer")
    assert asked.result() == ["answer"]


async def test_a_client_that_returns_before_it_was_missed(
    peer: Peer, server: ServerProcess, connect: Connect, mode: str
) -> None:
    other = await connect()
    async with Link.to(server.port) as link:
        client = await connect(mode, url=link.url, auth=IN_ROOM)
        await publish(other, 0, 2)
        await client.gets("news", 2)
        for times in (2, 3):
            link.freeze()
            await publish(other, 2 * times - 2, 2 * times)
            await client.cut()
            assert (await client.connected(times)).recovered
        await publish(other, 6, 8)
        await client.gets("news", 8)
        assert numbers(client) == list(range(8))
        assert await client.call("rooms") == [[ROOM]]
