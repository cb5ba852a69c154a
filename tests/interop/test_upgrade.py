"""From polling to WebSocket while events flow both ways: none lost, none doubled, none out of order."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.interop.conftest import Connect
from tests.interop.peer import MODES, Peer
from tests.support.link import Link
from tests.support.server_process import ServerProcess

pytestmark = [pytest.mark.node, pytest.mark.asyncio(loop_scope="module")]

EVENTS = 60


def gaps(rng: random.Random) -> list[float]:
    """Return pauses in milliseconds: bursts of one tick, and waits about as long as an upgrade takes."""
    longest = rng.choice([1.0, 3.0, 8.0])
    return [rng.choice([0.0, 0.0, rng.uniform(0, longest)]) for _ in range(EVENTS)]


async def upgrade_in_traffic(peer: Peer, url: str, rng: random.Random) -> None:
    """Connect a client that upgrades while both sides emit numbered events."""
    client = await peer.client(url, transports=MODES["upgrade"], auth={"stream": gaps(rng)})
    await client.connected()
    await client.burst("count", gaps(rng))
    await client.upgraded()
    ticks = await client.gets("tick", EVENTS)
    [counted] = await client.call("counted")
    assert ticks == [(number,) for number in range(EVENTS)]
    assert counted == list(range(EVENTS))
    assert client.disconnects == []


@pytest.mark.parametrize("round_number", range(6))
async def test_events_during_the_upgrade(
    peer: Peer, server: ServerProcess, connect: Connect, rng: random.Random, round_number: int
) -> None:
    await asyncio.gather(*(upgrade_in_traffic(peer, server.url, rng) for _ in range(10)))


@pytest.mark.parametrize("round_number", range(4))
async def test_events_during_a_slow_upgrade(
    peer: Peer, server: ServerProcess, connect: Connect, rng: random.Random, round_number: int
) -> None:
    longest_s = rng.choice([0.002, 0.01, 0.03])
    async with Link.to(server.port, lambda: rng.uniform(0, longest_s)) as link:
        await asyncio.gather(*(upgrade_in_traffic(peer, link.url, rng) for _ in range(10)))


async def test_a_client_that_may_not_upgrade_stays_on_polling(connect: Connect) -> None:
    client = await connect("upgrade", upgrade=False)
    assert await client.call("echo", 1) == [1]
    assert (await client.state()).transport == "polling"
    assert client.upgrades == []


async def test_an_upgrade_that_fails_leaves_polling_alone(
    peer: Peer, server: ServerProcess, connect: Connect
) -> None:
    client = await connect("upgrade", transportOptions={"websocket": {"path": "/nowhere/"}})
    assert await client.call("echo", 1, b"2") == [1, b"2"]
    assert (await client.state()).transport == "polling"
    assert client.disconnects == []
