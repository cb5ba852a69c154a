"""Two official clients at different workers see the same events in one order with the same offsets, under kills."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
from pathlib import Path

import pytest

import waypost
from tests.interop.peer import Client, Peer
from tests.support.server_process import ServerProcess
from tests.support.waiting import until
from waypost.errors import WaypostError

logger = logging.getLogger(__name__)

EVENTS = int(os.environ.get("WAYPOST_TEST_ORDER_EVENTS", "8000"))
_AT_A_TIME = 25
# So that enough workers die meanwhile.
_PACE_S = 0.15
_BETWEEN_KILLS_S = 2.0
_ATTEMPT_S = 5.0
_LAST_S = 120.0

pytestmark = [
    pytest.mark.long,
    pytest.mark.node,
    pytest.mark.asyncio,
    pytest.mark.timeout(300 + EVENTS // 50),
]


class Pouring:
    """Has events emitted by whichever worker it is at. What an attempt that failed has emitted is not known.

    Attributes:
        accepted: The numbers of events whose emit was acknowledged.
        attempted: How many were asked for.
    """

    def __init__(self, name: str, url: str, events: int) -> None:
        self.name = name
        self.accepted: list[int] = []
        self.attempted = 0
        self._client = waypost.Client(url, reconnection_delay_s=0.05)
        self._events = events

    async def run(self) -> None:
        """Go on until enough are accepted."""
        async with self._client:
            while len(self.accepted) < self._events:
                first = self.attempted
                self.attempted += _AT_A_TIME
                try:
                    await self._client.call("pour", self.name, first, _AT_A_TIME, timeout_s=_ATTEMPT_S)
                except WaypostError:
                    await asyncio.sleep(0.05)
                else:
                    self.accepted += range(first, self.attempted)
                    await asyncio.sleep(_PACE_S)


def workers_of(server: ServerProcess) -> list[int]:
    """Return the processes that the command has started."""
    path = Path(f"/proc/{server.pid}/task/{server.pid}/children")
    return [int(pid) for pid in path.read_text().split()]


async def apart(peer: Peer, url: str) -> list[Client]:
    """Return two clients at different workers."""
    found: dict[int, Client] = {}
    while len(found) < 2:
        client = await peer.client(url, transports=("websocket",), auth={"listens": True})
        await client.connected()
        (pid,) = await client.call("where")
        if pid in found:
            await client.disconnect()
        found.setdefault(pid, client)
    return [*found.values()]


async def kill_while(pouring: asyncio.Future[list[None]], server: ServerProcess, rng: random.Random) -> int:
    """Kill a worker again and again, as soon as all are back; returns how often."""
    kills = 0
    while not pouring.done():
        await asyncio.wait({pouring}, timeout=_BETWEEN_KILLS_S)
        workers = workers_of(server)
        if not pouring.done() and len(workers) == 3:
            os.kill(rng.choice(workers), signal.SIGKILL)
            kills += 1
    return kills


async def test_two_clients_at_two_workers_see_one_order(tmp_path: Path, rng: random.Random) -> None:
    command = ("-m", "waypost", "serve", "tests.interop.order_app:io", "--port", "{port}", "--workers", "3")
    server = ServerProcess((*command, "--store", str(tmp_path / "store.db")), tmp_path / "server.log")
    await server.start()
    try:
        async with Peer.start() as peer:
            listeners = await apart(peer, server.url)
            sources = [Pouring(name, server.url, EVENTS // 4) for name in "abcd"]
            pouring = asyncio.gather(*(one.run() for one in sources))
            kills = await kill_while(pouring, server, rng)
            await pouring
            expected = {(one.name, number) for one in sources for number in one.accepted}
            for listener in listeners:
                await until(
                    lambda listener=listener: expected <= set(listener.args_of("news")),  # type: ignore[misc]
                    "all accepted events",
                    _LAST_S,
                )
            await until(lambda: len({len(one.received["news"]) for one in listeners}) == 1, "as many each", _LAST_S)
            first, second = ([(one.offset, one.args) for one in each.received["news"]] for each in listeners)
            assert first == second
            assert len({offset for offset, _ in first}) == len({args for _, args in first}) == len(first)
            for listener in listeners:
                assert all(state.recovered for state in listener.connects[1:]), listener.connects
            assert kills
            logger.info("%d events, %d accepted, %d kills", len(first), len(expected), kills)
            await peer.leave_all()
        await server.stop()
    finally:
        await server.kill()
