"""A server is killed at steps of its work on a queue: emit, deliver, ack, nack, dead letter, redrive.

What was accepted is not lost, what is settled on disk does not come back, order holds, and dead letters stay until
they are redriven, and then end. The steps are drawn from the seed; storage alone is killed at each in tests/storage.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.interop.peer import Client, Peer, PeerError, Received
from tests.support.server_process import ServerProcess
from tests.support.waiting import DEADLINE_S

pytestmark = [pytest.mark.long, pytest.mark.node, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(150)]

ROUNDS = 4
MOST_KILLS = 6
MOST_STEPS = 100
JOBS = 6
POISONED = {1, 4}
FAILURES = 3
REASON = "broken"
_ASK_S = 2.0
_PAUSE_S = 0.01


class Ledger:
    """What has happened to jobs, and whether it may.

    Attributes:
        put: The jobs in the order in which they were put into the queue; each is put when the one before is accepted.
        offsets: Their places, as the server said.
        done: Those that were acknowledged.
        problems: What must not happen, and did.
    """

    def __init__(self) -> None:
        self.put: list[int] = []
        self.offsets: dict[int, int] = {}
        self.done: set[int] = set()
        self.problems: list[str] = []
        self.repeats = 0
        self._seen: list[int] = []
        # Grows with each kill. What it was when a job came last, came first; how often it was rejected.
        self._lives = 0
        self._came_at: dict[int, int] = {}
        self._first_at: dict[int, int] = {}
        self._rejected: Counter[int] = Counter()
        # What is known to be on disk.
        self._settled_upto = 0
        self._dead: set[int] = set()
        self._redriven: set[int] = set()
        self._over: set[int] = set()
        self._answered: set[int] = set()

    def came(self, job: int) -> None:
        """Note a delivery."""
        if job in self._over:
            self._complain(job, "came back from a round that was over")
        elif job in self._dead:
            self._complain(job, "came, though it is a dead letter that nobody has redriven")
        elif job not in self._redriven and self.offsets.get(job, self._settled_upto + 1) <= self._settled_upto:
            self._complain(job, f"came back, though all up to {self._settled_upto} was settled on disk")
        if job not in self._came_at:
            self._seen.append(job)
            self._first_at[job] = self._lives
            if self._seen != self.put[: len(self._seen)]:
                self._complain(job, f"came out of order: {self._seen}")
        else:
            self.repeats += 1
            if self._came_at[job] == self._lives and job not in self._answered:
                self._complain(job, "came again without a kill, and without having been rejected or redriven")
        self._came_at[job] = self._lives
        self._answered.discard(job)

    def rejects(self, job: int) -> None:
        """Note that a job is about to be rejected."""
        self._rejected[job] += 1
        self._answered.add(job)

    def killed(self) -> None:
        """Note that the server is dead."""
        self._lives += 1

    def look(self, seen: dict[str, Any]) -> None:
        """Note what is on disk."""
        self._settled_upto = max(self._settled_upto, seen["offset"])
        dead = {job for job, _, _ in seen["dead"]}
        for job, reason, failures in seen["dead"]:
            if (reason, failures) != (REASON, FAILURES) or self._rejected[job] < FAILURES:
                self._complain(job, f"is dead after {failures} failures of {self._rejected[job]}: {reason}")
        for job in dead - self._dead:
            if self._first_at[job] == self._lives and self._rejected[job] != FAILURES:
                self._complain(job, f"was rejected {self._rejected[job]} times without a kill")
        self._dead = dead

    def redrives(self) -> None:
        """Note that dead letters are about to be redriven."""
        self._redriven |= self._dead
        self._answered |= self._dead
        self._dead = set()

    def end_round(self) -> None:
        """Note that everything is settled on disk: nothing of it may ever come again."""
        if set(self.put) != self.done:
            self.problems.append(f"the queue is empty, but {set(self.put) - self.done} were never acknowledged")
        self._over = set(self.put)

    def _complain(self, job: int, problem: str) -> None:
        self.problems.append(f"job {job} {problem}")


class Story:
    """A queue, its producer and its consumer, and a server that keeps dying."""

    def __init__(self, server: ServerProcess, steps_file: Path, rng: random.Random) -> None:
        self.ledger = Ledger()
        self.kills = 0
        self.kills_left = 0
        self._server = server
        self._steps_file = steps_file
        self._rng = rng
        self._poisoned: set[int] = set()
        self._came: asyncio.Queue[Received] = asyncio.Queue()
        self._producer: Client
        self._consumer: Client

    async def begin(self, peer: Peer) -> None:
        self.draw()
        await self._server.start()
        self._producer = await peer.client(self._server.url, transports=["websocket"], auth={"role": "producer"})
        self._consumer = await peer.client(self._server.url, transports=["websocket"], auth={"role": "consumer"})
        self._consumer.observer = self._observe

    def draw(self) -> None:
        """Choose the step at which the server dies that is started next; 0 for none."""
        steps = self._rng.randint(1, MOST_STEPS) if self.kills_left > 0 else 0
        self._steps_file.write_text(str(steps))

    async def take_care(self) -> None:
        """Start the server again whenever it has died."""
        while True:
            if not self._server.alive():
                assert self._server.exit_code == -signal.SIGKILL, self._server.log()
                self.kills += 1
                self.kills_left -= 1
                self.ledger.killed()
                self.draw()
                await self._server.start()
                # Once more: what the dead one had sent may have come after the first note.
                self.ledger.killed()
            await asyncio.sleep(_PAUSE_S)

    async def consume(self) -> None:
        """Handle what comes: acknowledge it, or reject it if it is poisoned."""
        while True:
            received = await self._came.get()
            [job] = received.args
            if job in self._poisoned:
                self.ledger.rejects(job)
                await self._consumer.ack(received, {"nack": REASON, "retry_in": 0})
            else:
                self.ledger.done.add(job)
                await self._consumer.ack(received)

    async def play(self, first: int) -> None:
        """Put jobs into the queue, see the poisoned ones die, cure and redrive them, and see everything done."""
        jobs = range(first, first + JOBS)
        poisoned = {job for job in jobs if job % JOBS in POISONED}
        self._poisoned = set(poisoned)
        self.kills_left = MOST_KILLS
        for job in jobs:
            self.ledger.put.append(job)
            self.ledger.offsets[job] = await self._insist("put", job)
        await self._sees(0, poisoned)
        self._poisoned.clear()
        self.ledger.redrives()
        await self._insist("redrive")
        await self._sees(0, set())
        self.ledger.end_round()

    async def _sees(self, waiting: int, dead: set[int]) -> None:
        """Wait until that many messages wait, and these are dead letters."""
        seen: dict[str, Any] = {}
        try:
            async with asyncio.timeout(DEADLINE_S):
                while True:
                    seen = await self._insist("look")
                    self.ledger.look(seen)
                    if seen["waiting"] == waiting and {job for job, _, _ in seen["dead"]} == dead:
                        return
                    await asyncio.sleep(_PAUSE_S)
        except TimeoutError:
            raise AssertionError(
                f"not within {DEADLINE_S:g} s: {waiting} waiting and {dead} dead, after {self.kills} kills; at last "
                f"{seen}, {self._consumer.summary()}, {self.ledger.problems}\n{self._server.log()[-3000:]}"
            ) from None

    async def _insist(self, event: str, *args: Any) -> Any:
        """Ask until there is an answer."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                try:
                    [answer] = await self._producer.call(event, *args, timeout_s=_ASK_S)
                except PeerError:
                    await asyncio.sleep(_PAUSE_S)
                else:
                    return answer

    def _observe(self, kind: str, received: Received | None) -> None:
        if received is not None:
            self.ledger.came(received.args[0])
            self._came.put_nowait(received)


@pytest_asyncio.fixture(loop_scope="module")
async def story(peer: Peer, tmp_path: Path, rng: random.Random) -> AsyncIterator[Story]:
    store, steps_file = str(tmp_path / "store.db"), tmp_path / "steps"
    command = ("-m", "waypost", "serve", "tests.interop.mortal_app:io", "--port", "{port}", "--store", store)
    server = ServerProcess(command, tmp_path / "server.log", {"steps_file": str(steps_file)})
    story = Story(server, steps_file, rng)
    story.kills_left = MOST_KILLS
    await story.begin(peer)
    yield story
    await peer.leave_all()
    await server.kill()
    server.check_log()


async def test_a_queue_outlives_kills_at_any_step(story: Story) -> None:
    async with asyncio.TaskGroup() as group:
        beside = [group.create_task(story.take_care()), group.create_task(story.consume())]
        for number in range(ROUNDS):
            await story.play(number * JOBS)
        for task in beside:
            task.cancel()
    assert story.ledger.problems == []
    assert story.kills >= ROUNDS
