"""Slow JavaScript workers on a queue in the order of its keys, while the server is killed at random steps.

What was started, finished, acknowledged and counted is compared job by job: a job runs again only after a kill that
came before its ack was on disk, none is a dead letter, and none of a key overtakes another.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import shutil
import signal
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio

import waypost
from tests.interop.js_worker import JsWorker
from tests.interop.mortal_app import QUEUE
from tests.support.server_process import ServerProcess
from tests.support.waiting import until

logger = logging.getLogger(__name__)

KILLS = int(os.environ.get("WAYPOST_TEST_KILLS", "100"))
JOBS = 20 * KILLS
INTERRUPTED = KILLS // 2
WORKERS = 4
IN_HAND = 8
KEYS = 40
# A job takes 0.1 to 20 s, at a fifth of the time.
SHORTEST_MS, LONGEST_MS = 20, 4000
MOST_STEPS = 250
_PAUSE_S = 0.01

pytestmark = [pytest.mark.long, pytest.mark.node, pytest.mark.timeout(1200)]


class Deaths:
    """A server that keeps dying, and what was on disk each time.

    Attributes:
        all: The time of each death, and the jobs that were settled by then.
    """

    def __init__(self, server: ServerProcess, store: Path, steps_file: Path, rng: random.Random) -> None:
        self.all: list[tuple[float, set[int]]] = []
        self._server = server
        self._store = store
        self._steps_file = steps_file
        self._rng = rng

    async def start(self) -> None:
        """Start the server, with the step at which it dies; 0 for none."""
        steps = self._rng.randint(1, MOST_STEPS) if len(self.all) < KILLS else 0
        self._steps_file.write_text(str(steps))
        await self._server.start()

    async def go_on(self) -> None:
        """Start the server again whenever it has died."""
        while True:
            if not self._server.alive():
                assert self._server.exit_code == -signal.SIGKILL, self._server.log()
                self.all.append((time.time(), set(range(JOBS)) - self.waiting()))
                await self.start()
            await asyncio.sleep(_PAUSE_S)

    @property
    def url(self) -> str:
        """The address of the server."""
        return self._server.url

    async def stop(self) -> None:
        """Stop the server, which stores what it knows."""
        await self._server.stop()

    def waiting(self) -> set[int]:
        """Return the jobs that are not settled in the file, as it is there now."""
        # A copy: to open the file itself would change it.
        copy = self._store.with_name("copy.db")
        for end in ("", "-wal"):
            if self._store.with_name(self._store.name + end).exists():
                shutil.copyfile(f"{self._store}{end}", f"{copy}{end}")
        connection = sqlite3.connect(copy)
        try:
            return {int(number) for (number,) in connection.execute("SELECT id FROM message")}
        finally:
            connection.close()
            for end in ("", "-wal", "-shm"):
                copy.with_name(copy.name + end).unlink(missing_ok=True)


def key_of(job: int) -> str:
    return str(job % KEYS)


@pytest_asyncio.fixture
async def deaths(tmp_path: Path, rng: random.Random) -> AsyncIterator[Deaths]:
    store, steps_file = tmp_path / "store.db", tmp_path / "steps"
    async with opened(store) as io:
        await io.queue(QUEUE).get_consumer().create()
        spread = [int(SHORTEST_MS * (LONGEST_MS / SHORTEST_MS) ** rng.random()) for _ in range(JOBS)]
        messages = [
            waypost.NewMessage("job", {"number": job, "work_ms": work_ms}, id=str(job), key=key_of(job))
            for job, work_ms in enumerate(spread)
        ]
        await io.queue(QUEUE).emit_many(messages)
    command = ("-m", "waypost", "serve", "tests.interop.mortal_app:io", "--port", "{port}", "--store", str(store))
    server = ServerProcess(command, tmp_path / "server.log", {"steps_file": str(steps_file)})
    deaths = Deaths(server, store, steps_file, rng)
    await deaths.start()
    yield deaths
    await server.kill()
    server.check_log()
    async with opened(store) as io:
        info = await io.queue(QUEUE).get_consumer().info()
        assert (info.acknowledged, info.waiting, info.dead_letters) == (JOBS, 0, 0)


@asynccontextmanager
async def opened(store: Path) -> AsyncIterator[waypost.Server]:
    """Open the store in this process, while no server runs."""
    io = waypost.Server(store=store, drain_s=0.0)
    await io.start()
    try:
        yield io
    finally:
        await io.close()


class Run(NamedTuple):
    """A run of a job: the life of the server whose delivery it was, and when it began."""

    life: int
    at: float


def runs_of(worker: JsWorker, deaths: Deaths) -> Iterator[tuple[int, Run]]:
    """Return the jobs that a worker began, with each run. A busy worker may begin one after its server has died."""
    life = 0
    for one in worker.said:
        if one["what"] == "connected":
            life = sum(died < one["at"] for died, _ in deaths.all)
        elif one["what"] == "started":
            yield one["number"], Run(life, one["at"])


def check_runs(deaths: Deaths, runs: dict[int, list[Run]]) -> list[str]:
    """Name the jobs that ran again without a death between that had not got their ack to the disk."""
    problems = []
    for job, its_runs in runs.items():
        for before, again in pairwise(sorted(its_runs)):
            between = deaths.all[before.life : again.life]
            if all(job in settled for _, settled in between):
                problems.append(f"job {job}: {before}, {again}, {len(between)} deaths between, all after its ack")
    return problems


def check_order(runs: dict[int, list[Run]]) -> list[str]:
    """Name the jobs that began before one of the same key that was put into the queue earlier."""
    problems = []
    for key in range(KEYS):
        first = [min(run.at for run in runs[job]) for job in range(key, JOBS, KEYS)]
        problems += [f"key {key}: {first}"] if first != sorted(first) else []
    return problems


async def test_no_job_runs_again_whose_ack_was_stored(deaths: Deaths) -> None:
    consuming = {"order": "key", "prefetch": IN_HAND}
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        starting = group.create_task(deaths.go_on())
        auth = {"role": "consumer", "consuming": consuming}
        workers = [await stack.enter_async_context(JsWorker.start(deaths.url, auth=auth)) for _ in range(WORKERS)]

        def acknowledged() -> set[int]:
            return {job for worker in workers for job in worker.runs("acknowledged")}

        await until(lambda: len(acknowledged()) == JOBS and len(deaths.all) >= KILLS, "all is done", 1000)
        starting.cancel()
        await deaths.stop()
        assert deaths.waiting() == set()
        runs: dict[int, list[Run]] = defaultdict(list)
        for worker in workers:
            for job, run in runs_of(worker, deaths):
                runs[job].append(run)
        finished = sum((worker.runs("finished") for worker in workers), Counter())
        assert runs.keys() == finished.keys() == acknowledged() == set(range(JOBS))
        assert {job: len(its_runs) for job, its_runs in runs.items()} == dict(finished)
        assert check_runs(deaths, runs) == []
        assert check_order(runs) == []
        interrupted = sum(len(its_runs) > 1 for its_runs in runs.values())
        logger.info("%d kills, %d jobs were interrupted", len(deaths.all), interrupted)
        assert interrupted >= INTERRUPTED
