"""Everyone comes back at once, and is let go one after the other; thousands of them are bench/recovery.py's."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.interop.peer import Client, Peer
from tests.interop.publishing import ROOM
from tests.recovery.clients import Clients, came_back, come_back, numbers, publish, state
from tests.recovery.conftest import Launch
from tests.support.waiting import until

pytestmark = [pytest.mark.long, pytest.mark.node, pytest.mark.asyncio(loop_scope="module")]

CROWD = 120
MISSED = 60


async def gather_crowd(clients: Clients) -> list[Client]:
    """Connect the crowd over all transports."""
    modes = ["websocket", "websocket", "polling", "upgrade"]
    return list(await asyncio.gather(*(clients.listen(modes[number % 4]) for number in range(CROWD))))


async def test_everyone_at_once(peer: Peer, launch: Launch) -> None:
    server = await launch(recovery={"concurrent_replays": 4})
    clients = Clients(peer, server)
    crowd, speaker = await gather_crowd(clients), await clients.connect()
    await publish(speaker, 0, 2)
    await asyncio.gather(*(client.gets("news", 2) for client in crowd))
    await asyncio.gather(*(client.away() for client in crowd))
    await speaker.call("publish_many", ROOM, 2, MISSED)
    await server.restart("kill")
    await speaker.connected(2)
    coming = asyncio.gather(*(come_back(client) for client in crowd))
    newcomer = await clients.listen()
    await newcomer.call("echo", 1)
    await speaker.call("publish_many", ROOM, MISSED, MISSED + 10)
    await coming
    for client in crowd:
        await client.gets("news", MISSED + 10)
        assert numbers(client) == list(range(MISSED + 10))
    counters = (await state(await clients.control()))["counters"]
    assert counters["recoveries"] == {"recovered": CROWD + 1}
    assert counters["replayed_events"] >= CROWD * (MISSED - 2)


async def test_a_stop_lets_them_go_one_after_the_other(peer: Peer, launch: Launch) -> None:
    drain_s = 1.5
    server = await launch(drain_s=drain_s)
    clients = Clients(peer, server)
    crowd = await gather_crowd(clients)
    for client in crowd:
        await client.pause()
    began = time.monotonic()
    stopping = asyncio.create_task(server.stop())
    gone: list[float] = []

    def note() -> bool:
        while len(gone) < sum(bool(client.disconnects) for client in crowd):
            gone.append(time.monotonic() - began)
        return len(gone) == CROWD

    await until(note, "all are gone")
    await stopping
    assert gone[-1] - gone[0] > 0.6 * drain_s
    middle = gone[CROWD // 4 : 3 * CROWD // 4]
    assert middle[-1] - middle[0] > 0.2 * drain_s
    await server.start()
    await asyncio.gather(*(client.resume() for client in crowd))
    await asyncio.gather(*(came_back(client, 2) for client in crowd))
