"""Three servers on one PostgreSQL, official clients that work on queues, and faults of all kinds."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.interop import test_nodes as nodes
from tests.interop.peer import Client, Peer, PeerError, Received
from tests.support.line import Line
from tests.support.postgres import PostgresServer
from tests.support.server_process import HEARTBEAT, ServerProcess
from tests.support.spread import Spread
from tests.support.waiting import until, until_async

pytestmark = [pytest.mark.node, pytest.mark.asyncio, pytest.mark.long, pytest.mark.timeout(900)]

_ORDERS = ("strict", "key", "none")
_MODES = (("websocket",), ("polling",), ("polling", "websocket"))
_LEASE_S = 8.0
_DRAINED_S = 240.0
_FAULTS: Sequence[nodes.Fault] = (
    nodes.kill_a_node,
    nodes.stop_a_node,
    nodes.freeze_shortly,
    nodes.freeze_for_long,
    nodes.break_a_line,
    nodes.cut_a_line,
    nodes.end_a_backend,
    nodes.kill_the_engine,
)

Job: TypeAlias = tuple[str, str, int]
"""The queue, the producer, and the producer's number."""


@dataclass
class Diary:
    """What the clients saw, in the order in which they saw it.

    Attributes:
        accepted: The offset of each job whose emit was answered.
        keys: The key of each job.
        seen: ``(job, is_ack)``: it came to a client, or a client acknowledged it.
    """

    accepted: dict[Job, int] = field(default_factory=dict)
    keys: dict[Job, str] = field(default_factory=dict)
    seen: list[tuple[Job, bool]] = field(default_factory=list)

    def check_nothing_is_lost(self) -> None:
        came = {job for job, is_ack in self.seen if not is_ack}
        assert not self.accepted.keys() - came, f"never came: {sorted(self.accepted.keys() - came)[:10]}"
        done = {job for job, is_ack in self.seen if is_ack}
        assert not came - done, f"were settled, and nobody has done them: {sorted(came - done)[:10]}"

    def check_order(self, queue: str) -> None:
        """Fail unless jobs came first in the order of their offsets, each after the one before was done."""
        last: dict[str, Job] = {}
        came: set[Job] = set()
        done: set[Job] = set()
        for job, is_ack in self.seen:
            if is_ack:
                done.add(job)
            elif job[0] == queue and job in self.accepted and job not in came:
                came.add(job)
                key = self.keys[job] if queue == "key" else ""
                before = last.get(key)
                if before is not None:
                    assert self.accepted[before] < self.accepted[job], f"{job} came after {before}"
                    assert before in done, f"{job} came while {before} was in hand"
                last[key] = job


class Worker:
    """An official client that works on a queue, and acknowledges when it is connected."""

    def __init__(self, client: Client, diary: Diary, rng: random.Random) -> None:
        self.client = client
        self._diary = diary
        self._rng = rng
        self._connected = asyncio.Event()
        self._working: set[asyncio.Task[None]] = set()
        client.observer = self._observe

    def _observe(self, kind: str, received: Received | None) -> None:
        if kind == "connect":
            self._connected.set()
        elif kind == "disconnect":
            self._connected.clear()
        elif received is not None and received.event == "job":
            queue, producer, number = received.args[0]
            self._diary.seen.append(((queue, producer, number), False))
            task = asyncio.ensure_future(self._work((queue, producer, number), received))
            self._working.add(task)
            task.add_done_callback(self._working.discard)

    async def _work(self, job: Job, received: Received) -> None:
        await asyncio.sleep(self._rng.choice([0, 0, 0.02, 0.1, 0.4]))
        await self._connected.wait()
        self._diary.seen.append((job, True))
        await self.client.ack(received)


async def _produce(client: Client, diary: Diary, rng: random.Random, stop: asyncio.Event) -> None:
    number = 0
    while not stop.is_set():
        queue = rng.choice(_ORDERS)
        job, key = (queue, client.name, number), f"key {rng.randrange(5)}"
        diary.keys[job] = key
        number += 1
        try:
            [offsets] = await client.call(
                "enqueue_many", queue, [[list(job), key if queue == "key" else None]], timeout_s=2.5
            )
        except PeerError:
            # It may have been accepted all the same.
            pass
        else:
            diary.accepted[job] = offsets[0]
        await asyncio.sleep(rng.choice([0.01, 0.05, 0.1]))


async def _cut(clients: Sequence[Client], rng: random.Random) -> None:
    while True:
        await asyncio.sleep(rng.choice([0.5, 1, 3]))
        try:
            await rng.choice(clients).cut(rng.choice(["close", "reset"]))
        except PeerError:
            # It is not connected just now.
            continue


@asynccontextmanager
async def _service(engine: PostgresServer, tmp_path: Path, rng: random.Random) -> AsyncIterator[nodes.Service]:
    database = engine.create_database()
    options: dict[str, Any] = {"drain_s": 0.2, **HEARTBEAT, "queues": {"lease_s": _LEASE_S, "max_age_s": 86400.0}}
    async with AsyncExitStack() as stack:
        made = []
        for index in range(3):
            line = stack.enter_context(Line("127.0.0.1", engine.port))
            store = f"postgresql://postgres@127.0.0.1:{line.port}/{database}"
            node = nodes.Node(ServerProcess.waypost(tmp_path / f"node-{index}.log", store, options), line)
            stack.push_async_callback(node.server.kill)
            await node.server.start()
            made.append(node)
        front = await stack.enter_async_context(Spread.over([node.server.port for node in made], rng))
        yield nodes.Service(engine, made, front, rng)


async def test_queues_lose_nothing_and_keep_their_order_over_faults_of_all_kinds(
    own_postgres: PostgresServer, tmp_path: Path, rng: random.Random
) -> None:
    diary = Diary()
    async with _service(own_postgres, tmp_path, rng) as one, Peer.start() as peer:
        workers = [
            Worker(
                await peer.client(
                    one.front.url,
                    transports=mode,
                    auth={"consume": [order], "consuming": {"order": order}},
                    rules={"job": "hold"},
                ),
                diary,
                rng,
            )
            for order in _ORDERS
            for mode in _MODES
        ]
        producers = [await peer.client(one.front.url, transports=mode) for mode in _MODES]
        for client in [*(worker.client for worker in workers), *producers]:
            await client.connected()
        stop = asyncio.Event()
        producing = [asyncio.create_task(_produce(client, diary, rng, stop)) for client in producers]
        cutting = asyncio.create_task(_cut([worker.client for worker in workers], rng))
        await until(lambda: len(diary.seen) >= 30, "jobs are done", 60)
        ends_at = time.monotonic() + float(os.environ.get("WAYPOST_TEST_FAULT_SECONDS", "20"))
        while time.monotonic() < ends_at:
            await rng.choice(_FAULTS)(one)
            await asyncio.sleep(rng.choice([0.3, 1.0, 3.0]))
        cutting.cancel()
        stop.set()
        await asyncio.gather(*producing)
        await until_async(lambda: _waiting(producers[0]), lambda left: left == 0, "all is done", _DRAINED_S)
        diary.check_nothing_is_lost()
        diary.check_order("strict")
        diary.check_order("key")
        dead = [(await producers[0].call("dead_letters", order, timeout_s=30))[0] for order in _ORDERS]
        assert dead == [[], [], []]
        await peer.leave_all()


async def _waiting(client: Client) -> int:
    """Return how many jobs are not settled; -1 while nobody can say."""
    try:
        return sum([(await client.call("waiting", order, timeout_s=10))[0] for order in _ORDERS])
    except PeerError:
        return -1
