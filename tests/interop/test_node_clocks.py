"""Three servers whose clocks are an hour apart, on a PostgreSQL whose clock is set: nobody is told anything."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.interop.peer import Client, Peer
from tests.interop.publishing import ROOM, more, publishing
from tests.interop.test_nodes import check
from tests.support.postgres import PostgresServer
from tests.support.require import skip_or_fail
from tests.support.server_process import ServerProcess
from tests.support.spread import Spread
from tests.support.waiting import until, until_async

pytestmark = [pytest.mark.node, pytest.mark.asyncio, pytest.mark.long, pytest.mark.timeout(600)]

_LIVING = "SELECT name, incarnation, deaths FROM waypost.node ORDER BY id"
_OWNERS = "SELECT queue, consumer, node, fence FROM waypost.consumer_owner ORDER BY queue, consumer"
_BEATS = "SELECT node, counter FROM waypost.beat ORDER BY node"
_HOURS = (-1, 0, 1)
_HOUR_S = 3600
# Steady clocks go on as they are; no process shares a lock with another that may be killed while it holds it.
_FAKED = {
    "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    "DONT_FAKE_MONOTONIC": "1",
    "FAKETIME_CACHE_DURATION": "1",
    "FAKETIME_DISABLE_SHM": "1",
}
_FOR_THREADS = "libfaketimeMT.so.1"
# PostgreSQL looks at the clock in its signal handlers, which must not wait for a lock of what they interrupt.
_WITHOUT_LOCKS = "libfaketime.so.1"
_COMMAND = ("-m", "waypost", "serve", "tests.interop.patient_app:io", "--port", "{port}", "--store")
# No client is cut off because the machine is busy.
_OPTIONS = {"drain_s": 0.2, "ping_interval_s": 5, "ping_timeout_s": 120}
# Longer than the time after which a server is taken for dead.
_STEP_S = 600
# Longer than a server may be behind the others.
_AWAY_S = 20.0


def faked(library: str, **settings: str) -> dict[str, str]:
    """Return the variables that give a process a clock of its own, by one of faketime's two libraries."""
    libraries = sorted(Path("/usr/lib").glob(f"*/faketime/{library}"))
    if not libraries:
        skip_or_fail("libfaketime is not installed: apt-get install faketime")
    return {**_FAKED, "LD_PRELOAD": str(libraries[0]), **settings}


class Engine:
    """A PostgreSQL server whose clock a test sets.

    Args:
        server: The server; it is started anew.
    """

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._shift = server.folder / "shift"
        self._set("+0s")
        server.environment = faked(_WITHOUT_LOCKS, FAKETIME_TIMESTAMP_FILE=str(self._shift))
        server.restart()
        self.database = server.create_database()

    @property
    def url(self) -> str:
        """The address of its database."""
        return self._server.url(self.database)

    def all_of(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        return [tuple(row) for row in self._server.execute(query, database=self.database)]

    async def step(self, seconds: int) -> None:
        """Set its clock to so many seconds ahead of the right time, and wait until each node has had four beats."""
        self._set(f"{seconds:+}s")
        await until(lambda: abs(self.ahead_s() - seconds) < _STEP_S / 2, "the clock is set", 60)
        await self.beats(4)

    async def beats(self, number: int) -> None:
        """Wait until each node's counter has risen by so many."""
        before: dict[int, int] = dict(self.all_of(_BEATS))
        await until(
            lambda: all(counter >= before[node] + number for node, counter in self.all_of(_BEATS)),
            "each node has had its beats",
            120,
        )

    async def is_away_for(self, seconds: float) -> None:
        """Stop it, and start it again after a time."""
        self._server.stop("immediate")
        await asyncio.sleep(seconds)
        self._server.start()

    def ahead_s(self) -> float:
        """Return by how much its clock is ahead of this process's, in seconds."""
        return float(self._server.execute("SELECT extract(epoch FROM clock_timestamp())::float8")[0][0]) - time.time()

    def _set(self, shift: str) -> None:
        draft = self._shift.with_suffix(".draft")
        draft.write_text(f"{shift}\n")
        self._server.own(draft)
        draft.rename(self._shift)


@asynccontextmanager
async def serving(engine: Engine, tmp_path: Path) -> AsyncIterator[list[ServerProcess]]:
    """Three nodes, whose clocks are an hour apart."""
    async with AsyncExitStack() as stack:
        nodes = []
        for hours in _HOURS:
            log, environment = tmp_path / f"node{hours:+}.log", faked(_FOR_THREADS, FAKETIME=f"{hours:+}h")
            node = ServerProcess((*_COMMAND, engine.url), log, _OPTIONS, environment=environment)
            stack.push_async_callback(node.kill)
            await node.start()
            nodes.append(node)
        yield nodes


async def stationed(peer: Peer, nodes: list[ServerProcess]) -> list[Client]:
    """Connect a consumer to each node; returns them once one of them has had a job."""
    auth = {"consume": ["jobs"], "consuming": {"order": "key"}}
    workers = [await peer.client(node.url, transports=("websocket",), auth=auth) for node in nodes]
    for worker, hours in zip(workers, _HOURS, strict=True):
        await worker.connected()
        (ahead_s,) = [now - time.time() for now in await worker.call("clock")]
        assert abs(ahead_s - hours * _HOUR_S) < 600, "the node has another clock"
    await workers[0].call("enqueue_many", "jobs", [[0, "a"]])
    await until(lambda: any(worker.received["job"] for worker in workers), "the first job comes", 60)
    return workers


async def test_no_session_and_no_consumer_changes_hands_by_any_clock(
    own_postgres: PostgresServer, tmp_path: Path, rng: random.Random
) -> None:
    engine = Engine(own_postgres)
    async with (
        serving(engine, tmp_path) as nodes,
        Spread.over([node.port for node in nodes], rng) as front,
        Peer.start() as peer,
    ):
        workers = await stationed(peer, nodes)
        ways = (("websocket",), ("polling",), ("polling", "websocket"))
        listeners = [await peer.client(front.url, transports=way, auth={"rooms": [ROOM]}) for way in ways]
        for listener in listeners:
            await listener.connected()
        away = await peer.client(front.url, transports=("websocket",), auth={"rooms": [ROOM]})
        await away.connected()
        await away.away()
        living, owners = engine.all_of(_LIVING), engine.all_of(_OWNERS)
        assert owners
        async with publishing(listeners[0]) as publishers:
            for seconds in (_STEP_S, 0, -_STEP_S, 0):
                await engine.step(seconds)
                await more(listeners[-1], 10)
            await engine.is_away_for(_AWAY_S)
            await engine.beats(4)
            await until_async(lambda: _goes_on(listeners[0]), bool, "events come again", 60)
        assert engine.all_of(_OWNERS) == owners, "a consumer changed hands"
        assert engine.all_of(_LIVING) == living, "a node was taken for dead"
        assert [len(client.connects) for client in [*listeners, *workers]] == [1] * 6, "a client was cut off"
        # Each comes to a node by chance, by whose clock its session began in another hour.
        await away.resume()
        for listener in listeners:
            await listener.cut()
            await listener.connected(2)
        await away.connected(2)
        await check(publishers, [*listeners, away], in_order=False)
        await peer.leave_all()


async def _goes_on(client: Client) -> bool:
    before = len(client.received["news"])
    await asyncio.sleep(0.2)
    return len(client.received["news"]) > before
