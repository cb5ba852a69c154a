"""The server is killed or stopped at random moments under load, again and again: nobody misses anything."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.interop.peer import MODES, Client, Peer
from tests.interop.publishing import ROOM, Publisher, check, publishing
from tests.recovery.conftest import SHORT_HEARTBEAT, Launch
from tests.support.server_process import ServerProcess

pytestmark = [pytest.mark.long, pytest.mark.node, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

KILLS = 30
STOPS = 6
LONGEST_LIFE_S = 0.3


async def join_in(peer: Peer, server: ServerProcess) -> tuple[list[Client], list[Client]]:
    """Make listeners and speakers over all transports."""
    listeners = [
        await peer.client(server.url, transports=MODES[mode], auth={"rooms": [ROOM]})
        for mode in ("polling", "websocket", "upgrade", "websocket")
    ]
    speakers = [await peer.client(server.url, transports=MODES[mode]) for mode in ("polling", "websocket", "upgrade")]
    for client in (*listeners, *speakers):
        await client.connected()
    return listeners, speakers


async def kill(server: ServerProcess, rng: random.Random) -> None:
    """Kill the server and start it again; now and then it is killed before it listens, too."""
    await server.kill()
    while rng.random() < 0.2:
        server._spawn()
        await asyncio.sleep(rng.uniform(0, 0.5))
        await server.kill()
    await server.start()


async def check_all(publishers: list[Publisher], listeners: list[Client], speakers: list[Client]) -> None:
    """Fail unless everyone got everything, and nobody had to start anew."""
    await check(publishers, *listeners)
    for client in (*listeners, *speakers):
        assert all(state.recovered for state in client.connects[1:])
        assert {(state.id, state.pid) for state in client.connects} == {
            (client.connects[0].id, client.connects[0].pid)
        }


async def test_thirty_kills_under_load(peer: Peer, launch: Launch, rng: random.Random) -> None:
    server = await launch(**SHORT_HEARTBEAT)
    listeners, speakers = await join_in(peer, server)
    async with publishing(*speakers) as publishers:
        for _ in range(KILLS):
            await asyncio.sleep(rng.uniform(0, LONGEST_LIFE_S))
            await kill(server, rng)
    await check_all(publishers, listeners, speakers)
    assert sum(len(publisher.accepted) for publisher in publishers) > KILLS


async def test_stops_under_load(peer: Peer, launch: Launch, rng: random.Random) -> None:
    server = await launch(**SHORT_HEARTBEAT)
    listeners, speakers = await join_in(peer, server)
    async with publishing(*speakers) as publishers:
        for _ in range(STOPS):
            await asyncio.sleep(rng.uniform(0, LONGEST_LIFE_S))
            await server.restart("stop")
    await check_all(publishers, listeners, speakers)
