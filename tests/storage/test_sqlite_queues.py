"""What is SQLite's own of queues: what they cost, who is blamed for a kill, a full disk."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.storage.backends import UNLIMITED, Clock, ignore, positions, put, settle
from waypost.errors import StoreFull
from waypost.storage.journal_records import Retention
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import Attempt, NewMessageRow
from waypost.storage.sqlite.queues import queues
from waypost.storage.sqlite.store import SqliteStore

DEADLINE_S = 60.0
# What SQLite's machine may do for one message or page, in instructions.
MAX_STEPS = 3000

HOLDER = """
import asyncio, os, signal, sys
from waypost.storage.queue_records import NewMessageRow
from waypost.storage.sqlite.store import SqliteStore

async def main():
    store = SqliteStore(sys.argv[1])
    await store.open()
    queue = store.queue("q")
    epoch = (await queue.add_consumer("c")).epoch
    messages = [NewMessageRow(str(number), b"") for number in range(5)]
    await queue.enqueue(messages, deduplicate_s=0, on_commit=lambda _: None)
    queue.hold("c", "one", 2)
    queue.hold("c", "other", 4)
    queue.hold("c", "gone", 5)
    await asyncio.sleep(0.1)
    await queue.settle("c", epoch, [4])
    queue.hold("c", "gone", None)
    await asyncio.sleep(0.1)
    if sys.argv[2] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    await store.close()

asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
async def store(path: Path, clock: Clock) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path, wall_time=clock)
    await store.open()
    yield store
    await store.close()


async def steps_of(store: SqliteStore, work: Callable[[], Awaitable[object]]) -> int:
    """Count the instructions of SQLite's machine that something takes."""
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    opened = store._open()
    await opened.writer.submit(lambda tx: tx.connection.set_progress_handler(count, 1))
    await opened.reader.run(lambda connection: connection.set_progress_handler(count, 1))
    steps = 0
    await work()
    await opened.writer.submit(lambda tx: tx.connection.set_progress_handler(None, 1))
    await opened.reader.run(lambda connection: connection.set_progress_handler(None, 1))
    return steps


async def make_backlog(store: SqliteStore, size: int) -> tuple[StoredQueue, int]:
    """Return a queue with a backlog, and two consumers that have hardly begun."""
    queue = store.queue(f"backlog of {size}")
    for name in ("slow", "c"):
        epoch = (await queue.add_consumer(name)).epoch
    for start in range(0, size, 5000):
        part = [NewMessageRow(str(one), b"x", f"k{one % 7}") for one in range(start, min(size, start + 5000))]
        await queue.enqueue(part, deduplicate_s=0, on_commit=ignore)
    return queue, epoch


async def costs(store: SqliteStore, size: int) -> dict[str, int]:
    queue, epoch = await make_backlog(store, size)
    later = Attempt(6, 1, 0, "rejected", "no", 1.0, 1e12)
    again = Attempt(7, 1, 0, "rejected", "no", 1.0, 2.0)
    works: dict[str, Callable[[], Awaitable[object]]] = {
        "enqueue": lambda: put(queue, "one more"),
        "fetch": lambda: queue.fetch("c", after=0, max_messages=4, max_bytes=UNLIMITED),
        "settle": lambda: queue.settle("c", epoch, [1]),
        "settle out of order": lambda: queue.settle("c", epoch, [4, 8]),
        "retry": lambda: queue.retry("c", epoch, [later, again]),
        "bury": lambda: queue.bury("c", epoch, [Attempt(5, 1, 0, "rejected", "no", 1.0)]),
        "fetch behind exceptions": lambda: queue.fetch("c", after=0, max_messages=4, max_bytes=UNLIMITED),
        "fetch a key": lambda: queue.fetch_key(
            "c", "k3", after=0, upto=UNLIMITED, max_messages=2, max_bytes=UNLIMITED
        ),
        "fetch retries": lambda: queue.fetch_retries(
            "c", upto=UNLIMITED, held=(), max_messages=4, max_bytes=UNLIMITED
        ),
        "info": queue.info,
        "info of a consumer": lambda: queue.consumer("c"),
        "add a consumer": lambda: queue.add_consumer("another"),
        "settle by the slow one": lambda: settle(queue, "slow", [1]),
    }
    return {name: await steps_of(store, work) for name, work in works.items()}


async def test_a_large_backlog_costs_no_more_than_a_small_one(store: SqliteStore) -> None:
    small, large = await costs(store, 10), await costs(store, 20_000)
    assert max(large.values()) < MAX_STEPS, large
    for name, steps in large.items():
        assert steps <= 2 * small[name] + 100, name


async def test_what_is_settled_or_waits_costs_reading_nothing(store: SqliteStore) -> None:
    queue, epoch = await make_backlog(store, 6000)
    waiting = [Attempt(one, 1, 0, "rejected", "no", 1.0, 1e12) for one in range(1, 2001)]
    await queue.retry("c", epoch, waiting)
    await queue.settle("c", epoch, range(2001, 5001))

    async def read() -> None:
        retries = await queue.fetch_retries("c", upto=UNLIMITED, held=(), max_messages=9, max_bytes=UNLIMITED)
        assert (retries.messages, retries.next_at) == ((), 1e12)
        found = await queue.fetch("c", after=2000, max_messages=1, max_bytes=UNLIMITED)
        assert found[0].position == 5001

    assert await steps_of(store, read) < MAX_STEPS


async def test_queues_that_nobody_uses_cost_no_memory(store: SqliteStore) -> None:
    for number in range(300):
        queue = store.queue(str(number))
        await asyncio.gather(queue.add_consumer("c"), put(queue, "id"))
    opened = store._open()
    assert not opened.queues.holds._noted
    assert not opened.queues.holds._written
    assert not opened.journals


async def run_holder(path: Path, how: str) -> int | None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", HOLDER, str(path), how)
    return await asyncio.wait_for(process.wait(), DEADLINE_S)


async def losses(path: Path) -> dict[int, int]:
    store = SqliteStore(path)
    await store.open()
    found = await store.queue("q").fetch("c", after=0, max_messages=9, max_bytes=UNLIMITED)
    await store.close()
    return {message.position: message.losses for message in found}


async def test_a_kill_is_counted_against_what_was_in_hand(path: Path) -> None:
    assert await run_holder(path, "kill") == -signal.SIGKILL
    expected = {1: 0, 2: 1, 3: 0, 5: 0}
    assert await losses(path) == expected
    assert await losses(path) == expected, "once"


async def test_a_stop_is_counted_against_nothing(path: Path) -> None:
    assert await run_holder(path, "close") == 0
    assert await losses(path) == {1: 0, 2: 0, 3: 0, 5: 0}


async def test_what_is_settled_fast_is_never_written(store: SqliteStore) -> None:
    queue = store.queue("q")
    await queue.add_consumer("c")
    await put(queue, "id")
    queue.hold("c", "holder", 1)
    queue.hold("c", "holder", None)
    await asyncio.sleep(0.1)
    rows = await store._open().reader.run(lambda connection: connection.execute("SELECT * FROM holding").fetchall())
    assert rows == []


def limit_pages(store: SqliteStore, pages: int) -> asyncio.Future[object]:
    """Let a file grow to so many pages."""
    return store._open().writer.submit(
        lambda tx: tx.connection.execute(f"PRAGMA max_page_count = {pages}").fetchall()
    )


async def test_a_full_disk_refuses_messages_and_the_store_lives(store: SqliteStore) -> None:
    queue = store.queue("q")
    await queue.add_consumer("c")
    await put(queue, "before")
    await limit_pages(store, 1)
    with pytest.raises(StoreFull, match="no space left"):
        await put(queue, "large", b"x" * 500_000)
    results = await asyncio.gather(
        *(put(queue, f"large {number}", b"x" * 100_000) for number in range(9)), return_exceptions=True
    )
    accepted = [result for result in results if not isinstance(result, StoreFull)]
    assert len(accepted) < 9
    assert await positions(queue, "c") == [*range(1, len(accepted) + 2)], "what was there can be read"
    await limit_pages(store, 1_000_000)
    assert (await put(queue, "large", b"x" * 500_000)).position == len(accepted) + 2
    await settle(queue, "c", await positions(queue, "c"))
    assert (await queue.info()).messages == 0


async def test_another_program_may_look_beside_it(store: SqliteStore, path: Path) -> None:
    await put(store.queue("q"), "id")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name, messages FROM queue").fetchall() == [("q", 1)]
        connection.execute("INSERT INTO changed VALUES ('q')")
        connection.commit()
    assert (await store.release_due()).queues == {"q"}
    assert (await store.release_due()).queues == frozenset()


async def test_a_queue_is_deleted_at_once_and_its_rest_later_also_after_a_kill(
    path: Path, store: SqliteStore, clock: Clock
) -> None:
    async def fill(name: str) -> None:
        queue = store.queue(name)
        epoch = (await queue.add_consumer("c")).epoch
        messages = [NewMessageRow(str(number), b"x") for number in range(2500)]
        messages.append(NewMessageRow("later", b"x", delay_s=60))
        await queue.enqueue(messages, deduplicate_s=60, on_commit=ignore)
        await queue.settle("c", epoch, [5])
        await queue.bury("c", epoch, [Attempt(6, 1, 0, "rejected", "no", clock.now)])

    await fill("q")
    # The first commit of a deletion, after which the process is killed.
    assert await store._open().writer.submit(lambda tx: queues.delete(tx, "q"))
    assert await store.queues() == []
    assert await store.queue("q").consumers() == []
    assert await store.configurations() == []
    await store.close()
    reopened = SqliteStore(path, wall_time=clock)
    await reopened.open()
    queue = reopened.queue("q")
    again = await queue.enqueue([NewMessageRow("0", b"new")], deduplicate_s=60, on_commit=ignore)
    assert [(one.position, one.duplicate) for one in again.accepted] == [(1, False)]
    await queue.add_consumer("c")
    assert await positions(queue, "c") == [1]
    clock.now += 100
    assert await reopened.expire_consumers(50, [("q", "c")]) == []
    await reopened.trim()
    await reopened.close()
    with closing(sqlite3.connect(path)) as connection:
        tables = ("queue", "message", "scheduled", "deduplication", "outstanding", "dead_letter", "consumer")
        counts = {one: connection.execute(f"SELECT count(*) FROM {one}").fetchone()[0] for one in tables}
    assert counts == {"queue": 1, "message": 1, "consumer": 1} | dict.fromkeys(tables[2:6], 0)


async def test_two_queues_are_deleted_beside_each_other(path: Path, store: SqliteStore) -> None:
    for name in ("a", "b"):
        messages = [NewMessageRow(str(number), b"x") for number in range(1500)]
        await store.queue(name).enqueue(messages, deduplicate_s=0, on_commit=ignore)
    await asyncio.gather(store.queue("a").delete(), store.queue("b").delete(), store.queue("none").delete())
    assert await store.queues() == []
    await store.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM message").fetchall() == [(0,)]


@pytest.mark.parametrize(("size", "most"), [(1_500, 2_000), (2_100, 3_000), (4_000, 8_500), (9_000, 9_600)])
async def test_a_large_message_takes_hardly_more_than_its_size(tmp_path: Path, size: int, most: int) -> None:
    path, messages = tmp_path / "store.db", 200
    store = SqliteStore(path)
    await store.open()
    queue = store.queue("q")
    await queue.add_consumer("c")
    empty = _pages_in_use(path)
    new = [NewMessageRow(str(number), b"x" * size) for number in range(messages)]
    await queue.enqueue(new, deduplicate_s=0, on_commit=ignore)
    assert (_pages_in_use(path) - empty) * 8192 < messages * most
    await settle(queue, "c", range(1, messages + 1))
    assert _pages_in_use(path) <= empty + 2
    await store.close()


async def test_a_large_event_takes_hardly_more_than_its_size(tmp_path: Path) -> None:
    path, events = tmp_path / "store.db", 100
    store = SqliteStore(path, retention=Retention(max_entries=1))
    await store.open()
    journal = await store.journal("/")
    empty = _pages_in_use(path)
    for _ in range(events):
        await journal.append(b"x" * 2_100, ignore)
    assert (_pages_in_use(path) - empty) * 8192 < events * 3_000
    await store.trim()
    assert _pages_in_use(path) <= empty + 3
    await store.close()


def _pages_in_use(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        ((pages,),) = connection.execute("PRAGMA page_count").fetchall()
        ((free,),) = connection.execute("PRAGMA freelist_count").fetchall()
    return int(pages - free)
