"""Whatever pauses deliveries is woken by what ends it, without an emit or another client that comes."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.server.model_client import hub_of, running, until
from tests.server.queues.client import QUEUE, quiet, site
from tests.support.waiting import DEADLINE_S
from waypost.errors import StorageError
from waypost.server import hub
from waypost.server.queues import settler
from waypost.server.queues.due import DueTimer
from waypost.server.queues.orders.delivery_order import Read, ReadKey, ReadOn, ReadRetries
from waypost.server.queues.pages import Pages
from waypost.server.queues.work_loop import WorkLoop
from waypost.storage.base import Store
from waypost.storage.memory.store import MemoryStore
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import Due

# More outcomes than these that wait for the store pause deliveries.
_MOST_PENDING = 4096
_MESSAGES = 6000


@pytest.fixture
def no_upkeep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no upkeep look after the consumers: it would wake those that stand still, after ten seconds."""
    monkeypatch.setattr(hub, "_UPKEEP_INTERVAL_S", 3600.0)


def has_stopped(io: waypost.Server) -> bool:
    """Whether too much waits for the store, and nothing is in hand whose ack would wake the consumer."""
    (runner,) = hub_of(io).deliveries.serving("jobs")
    return runner._progress._settler.is_behind and not runner.in_flight


async def test_deliveries_go_on_once_the_store_has_caught_up(tmp_path: Path, no_upkeep: None) -> None:
    path = tmp_path / "store.db"
    io = waypost.Server(store=str(path), drain_s=0.0)
    handled, may_begin = 0, asyncio.Event()

    @io.consumer("jobs", concurrency=200)
    async def work(message: waypost.Message) -> None:
        nonlocal handled
        await may_begin.wait()
        handled += 1

    async with running(io):
        queue = io.queue("jobs")
        for _ in range(_MESSAGES // 1000):
            await queue.emit_many([waypost.NewMessage("job")] * 1000)
        with sqlite3.connect(path, isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            may_begin.set()
            await until(lambda: has_stopped(io))
            assert _MOST_PENDING <= handled < _MESSAGES
            other.execute("ROLLBACK")
        other.close()
        async with asyncio.timeout(DEADLINE_S):
            while (await queue.get_consumer().info()).waiting:
                await asyncio.sleep(0.01)
    assert handled == _MESSAGES


async def test_deliveries_go_on_although_more_messages_fit_no_handler_than_may_wait_for_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_upkeep: None
) -> None:
    monkeypatch.setattr(settler, "_MOST_PENDING", 400)
    path = tmp_path / "store.db"
    io = waypost.Server(store=str(path), drain_s=0.0)
    handled: list[int] = []
    may_go_on = asyncio.Event()

    @io.consumer("jobs", concurrency=1)
    async def work(message: waypost.Message, number: int) -> None:
        handled.append(number)
        await may_go_on.wait()

    async with running(io):
        queue = io.queue("jobs")
        await queue.emit("job", 1)
        await until(lambda: bool(handled))
        await queue.emit_many([waypost.NewMessage("job", "no number")] * 1000)
        await queue.emit("job", 2)
        with sqlite3.connect(path, isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            may_go_on.set()
            await until(lambda: has_stopped(io))
            other.execute("ROLLBACK")
        other.close()
        async with asyncio.timeout(DEADLINE_S):
            while (await queue.get_consumer().info()).waiting:
                await asyncio.sleep(0.01)
        assert (await queue.info()).dead_letters == 1000
    assert handled == [1, 2]


async def test_nothing_goes_out_after_a_pause_that_comes_during_a_read(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, may_read = asyncio.Event(), asyncio.Event()
    may_read.set()
    read_page = Pages.read

    async def read(pages: Pages, wanted: Read) -> Any:
        reading.set()
        await may_read.wait()
        return await read_page(pages, wanted)

    monkeypatch.setattr(Pages, "read", read)
    async with site(order="none", prefetch=1) as here:
        client = await here.client()
        await here.put(1, 2, 3)
        await client.gets(1)
        await quiet()
        reading.clear()
        may_read.clear()
        hub_of(here.io).deliveries.changed(QUEUE, "default")
        async with asyncio.timeout(DEADLINE_S):
            await reading.wait()
        await here.queue.get_consumer().pause()
        client.reply(1)
        await quiet()
        assert client.jobs == [1]
        may_read.set()
        await quiet()
        assert client.jobs == [1]
        await here.queue.get_consumer().resume()
        client.auto_ack = True
        await client.gets(3)


@pytest.mark.parametrize("kind", [ReadOn, ReadKey, ReadRetries])
async def test_what_could_not_be_read_once_is_read_later(kind: type[Read], monkeypatch: pytest.MonkeyPatch) -> None:
    failures = 0
    read_page = Pages.read

    async def read(pages: Pages, wanted: Read) -> Any:
        nonlocal failures
        if isinstance(wanted, kind) and not failures:
            failures += 1
            raise StorageError("here", "it does not answer")
        return await read_page(pages, wanted)

    monkeypatch.setattr(Pages, "read", read)
    async with site(order="key", prefetch=1) as here:
        client = await here.client()
        # So large that not all of a key wait in memory, and the rest is read when those are done.
        jobs = [str(number) * 200_000 for number in range(4)]
        await here.put(*jobs, key="k")
        await client.gets(1)
        client.auto_ack = True
        client.reply(jobs[0], '[{"nack":"not now","retry_in":0.01}]')
        await here.settled()
    assert client.jobs == [jobs[0], *jobs]
    assert failures == 1


async def test_a_loop_goes_on_after_a_fault_of_its_own() -> None:
    rounds: list[int] = []
    pauses: list[float] = []

    async def run_round() -> None:
        rounds.append(len(rounds))
        if len(rounds) == 1:
            raise ZeroDivisionError

    loop = WorkLoop(run_round, lambda _problem, pause_s: pauses.append(pause_s), lambda _task: None)
    loop.wake()
    await until(lambda: len(rounds) == 2)
    assert pauses == [0.5]
    loop.stop()


async def test_what_the_store_has_released_once_is_told_although_the_first_try_fails() -> None:
    store, told = MemoryStore(), asyncio.Queue[frozenset[str]]()
    await store.open()
    tries = 0

    async def released(due: Due) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise StorageError("here", "it does not answer")
        told.put_nowait(due.queues)

    timer = DueTimer(lambda: store, lambda _task: None, released)

    async def release_due() -> Due:
        return Due(frozenset({"jobs"} if not tries else ()), None)

    store.release_due = release_due  # type: ignore[method-assign]
    timer.look()
    async with asyncio.timeout(DEADLINE_S):
        assert await told.get() == {"jobs"}
    timer.stop()


class _FailingOnce:
    """A store whose queues can't be had the first time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.failures = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def queue(self, name: str) -> StoredQueue:
        if not self.failures:
            self.failures += 1
            raise StorageError("here", "it does not answer")
        return self._store.queue(name)


async def test_a_worker_that_comes_late_begins_although_the_store_failed() -> None:
    io = waypost.Server(drain_s=0.0)
    done: list[str] = []
    async with running(io):
        await io.queue("jobs").emit("job")
        services = hub_of(io).services
        failing: Any = _FailingOnce(services.store)
        services.store = failing
        consumer: Callable[..., Any] = io.consumer("jobs")

        @consumer
        async def work(message: waypost.Message) -> None:
            done.append(message.event)

        await until(lambda: done == ["job"])
        assert failing.failures == 1
