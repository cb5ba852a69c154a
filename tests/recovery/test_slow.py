"""A client that does not read costs the server little, is cut off, and catches up when it reads again."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.interop.peer import Client, Peer
from tests.interop.publishing import ROOM
from tests.recovery.clients import Clients, came_back, come_back, numbers, publish, state
from tests.recovery.conftest import Launch
from tests.support.link import Link
from tests.support.server_process import ServerProcess
from tests.support.waiting import until, until_async

pytestmark = [pytest.mark.long, pytest.mark.node, pytest.mark.asyncio(loop_scope="module")]

MEBIBYTE = 1 << 20
EVENT_BYTES = 64 << 10
EVENTS = 480  # 30 MiB
STEP = 8
MOST_GROWTH = 20 * MEBIBYTE
OPTIONS: dict[str, Any] = {
    "recovery": {"tail_bytes": MEBIBYTE, "replay_max_bytes": 64 * MEBIBYTE},
    "max_stalled_s": 2,
}

WITHOUT_UPGRADE = ("polling", "websocket")


def resident_bytes(server: ServerProcess) -> int:
    """Return how much memory the server has in use (Linux)."""
    assert server._process is not None
    pages = Path(f"/proc/{server._process.pid}/statm").read_text().split()[1]
    return int(pages) * 4096


async def publish_much(speaker: Client, reader: Client, server: ServerProcess) -> int:
    """Publish all the events, some at a time, as fast as one reads them; return the most memory in use meanwhile."""
    most = 0
    for first in range(0, EVENTS, STEP):
        await speaker.call("publish_many", ROOM, first, first + STEP, EVENT_BYTES)
        await until(partial(is_last, reader, first + STEP - 1), "it is read")
        most = max(most, resident_bytes(server))
    return most


def is_last(client: Client, number: int) -> bool:
    """Tell whether a number is the newest that the client has got."""
    return numbers(client)[-1:] == [number]


async def cut_off(control: Client, times: int = 1) -> None:
    """Wait until the server has cut off so many slow clients."""
    await until_async(
        lambda: state(control), lambda found: found["counters"]["slow_clients"] >= times, f"{times} are cut off"
    )


async def test_a_client_that_reads_nothing(peer: Peer, launch: Launch) -> None:
    server = await launch(**OPTIONS)
    clients = Clients(peer, server)
    speaker, control, reader = await clients.connect(), await clients.control(), await clients.listen()
    # The database's own caches are full before the measurement begins.
    await publish_much(speaker, reader, server)
    before = resident_bytes(server)
    async with Link.to(server.port) as link:
        stuck = [await clients.listen(mode, url=link.url) for mode in WITHOUT_UPGRADE]
        await publish(speaker, -1, 0)
        for client in stuck:
            await client.gets("news", 1)
        link.freeze(new=True)
        most = await publish_much(speaker, reader, server)
        assert most - before < MOST_GROWTH, f"from {before >> 20} to {most >> 20} MiB"
        await cut_off(control, 2)
        link.freeze(new=False)
        for client in stuck:
            await client.cut()
            await came_back(client, 2)
        await publish(speaker, EVENTS, EVENTS + 1)
        for client in stuck:
            await client.gets("news", EVENTS + 2)
            assert numbers(client) == list(range(-1, EVENTS + 1))
    assert reader.disconnects == []


async def test_it_stops_reading_in_the_middle_of_a_replay(peer: Peer, launch: Launch) -> None:
    server = await launch(**{**OPTIONS, "max_stalled_s": 0.7})
    clients = Clients(peer, server)
    speaker, control, reader = await clients.connect(), await clients.control(), await clients.listen()
    async with Link.to(server.port, lambda: 0.005) as link:
        stuck = [await clients.listen(mode, url=link.url) for mode in WITHOUT_UPGRADE]
        for client in stuck:
            await client.away()
        await publish_much(speaker, reader, server)
        for client in stuck:
            await client.resume()
        for client in stuck:
            await came_back(client, 2)
        link.freeze(new=True)
        await publish(speaker, EVENTS, EVENTS + 20)
        await cut_off(control, 2)
        assert all(len(client.received["news"]) < EVENTS for client in stuck)
        link.freeze(new=False)
        for client in stuck:
            await client.cut()
            await came_back(client, 3)
            await client.gets("news", EVENTS + 20)
            assert numbers(client) == list(range(EVENTS + 20))


@pytest.mark.parametrize("mode", WITHOUT_UPGRADE)
async def test_more_is_held_than_may_wait(peer: Peer, launch: Launch, mode: str) -> None:
    """While a handler waits during its recovery, so much is emitted that it is cut off, and then let in whole."""
    server = await launch(**OPTIONS)
    clients = Clients(peer, server)
    speaker, control = await clients.connect(), await clients.control()
    client = await clients.listen(mode)
    await client.away()
    await publish(speaker, 0, 2)
    await client.resume({"hold": {"connect": "held"}})
    await until_async(lambda: control.call("held", "held"), lambda found: found[0] >= 1, "it is held")
    await speaker.call("publish_many", ROOM, 2, 40, EVENT_BYTES)
    await cut_off(control)
    await control.call("open", "held")
    await client.gets("news", 40)
    assert numbers(client) == list(range(40))
    await client.away()
    await come_back(client)
    assert len(client.received["news"]) == 40
