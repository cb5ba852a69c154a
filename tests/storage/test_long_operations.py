"""Operations on very many messages: one short commit each, seen from outside all or nothing, also over a kill."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from pathlib import Path

import pytest

from tests.storage.backends import UNLIMITED, Clock, ignore, positions, settle
from tests.support.waiting import until_async
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import Attempt, DeadLetterFilter, FromPosition, Loss, NewMessageRow, QueueLimits
from waypost.storage.sqlite import sweeper
from waypost.storage.sqlite.jobs import Transaction
from waypost.storage.sqlite.queues import marks, sweeps
from waypost.storage.sqlite.store import SqliteStore

_MANY = 2000
_LIMITS = QueueLimits(max_messages=100, max_bytes=UNLIMITED, overflow="drop_oldest")

Operation = Callable[[StoredQueue], Awaitable[object]]
# What each does, and how many messages are left of `_MANY`, of which "fast" has settled all and "slow" none.
OPERATIONS: dict[str, tuple[Operation, int]] = {
    "purge": (lambda queue: queue.purge(), 0),
    "purge up to": (lambda queue: queue.purge(upto=_MANY - 7), 7),
    "seek past all": (lambda queue: queue.seek("slow", "new"), 0),
    "seek past many": (lambda queue: queue.seek("slow", FromPosition(_MANY - 6)), 7),
    "delete a consumer": (lambda queue: queue.remove_consumer("slow"), 0),
    "lower the limits": (lambda queue: queue.configure(_LIMITS, b"{}"), 100),
}


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Go in so many steps as if there were a million messages."""
    monkeypatch.setattr(marks, "_STEP", 50)
    monkeypatch.setattr(sweeps, "_STEP", 20)


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "store.db", wall_time=clock)
    await store.open()
    yield store
    await store.close()


async def fill(store: SqliteStore) -> StoredQueue:
    queue = store.queue("q")
    await queue.add_consumer("slow")
    await queue.add_consumer("fast", start="new")
    messages = [NewMessageRow(str(number), b"x" * 10) for number in range(_MANY)]
    await queue.enqueue(messages, deduplicate_s=0, on_commit=ignore)
    await queue.seek("fast", "new")
    return queue


async def rows(store: SqliteStore) -> list[int]:
    """Count the rows that are there, and what is left to be done in steps."""

    def count(connection: object) -> list[int]:
        tables = ("message", "outstanding", "scheduled", "dead_letter", "consumer", "sweep")
        return [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables]  # type: ignore[attr-defined]

    return await store._open().reader.run(count)


async def swept(store: SqliteStore) -> list[int]:
    """Wait until nothing is left to be done in steps; returns the rows that are there then."""
    return await until_async(lambda: rows(store), lambda found: found[-1] == 0, "all is swept")


async def seen(queue: StoredQueue) -> tuple[int, int, list[int], dict[str, tuple[int, int]]]:
    """Return what is seen of a queue: its counters, and what may be read."""
    info = await queue.info()
    found = await queue.peek(after=0, max_messages=UNLIMITED, max_bytes=UNLIMITED)
    waiting = {one.name: (one.waiting, one.cursor) for one in await queue.consumers()}
    return info.messages, info.bytes, [one.position for one in found], waiting


@pytest.mark.parametrize("name", OPERATIONS)
async def test_it_is_seen_all_or_nothing_and_then_its_rows_go(store: SqliteStore, name: str) -> None:
    queue = await fill(store)
    operation, left = OPERATIONS[name]
    before = await seen(queue)
    assert before[0] == _MANY
    running = asyncio.ensure_future(operation(queue))
    snapshots = []
    while not running.done():
        snapshots.append(await seen(queue))
        await asyncio.sleep(0)
    await running
    after = await seen(queue)
    assert after[:2] == (left, 10 * left)
    assert after[2] == list(range(_MANY - left + 1, _MANY + 1))
    for snapshot in snapshots:
        # These were read one after the other. A consumer that moves or goes is seen before what nobody wants then.
        assert snapshot[:2] in (before[:2], after[:2])
        assert snapshot[2] in (before[2], after[2])
    assert (await swept(store))[:2] == [left, 0]
    assert await seen(queue) == after


@pytest.mark.parametrize("name", OPERATIONS)
async def test_a_message_waits_for_no_more_than_two_steps(
    store: SqliteStore, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step that runs, and one that begins after the commit, before the answer has come."""
    steps = 0

    def sweep(transaction: Transaction, *, held_back: Collection[str]) -> int:
        nonlocal steps
        steps += 1
        return sweeps.sweep(transaction, held_back=held_back)

    monkeypatch.setattr(sweeper, "sweep", sweep)
    monkeypatch.setattr(sweeps, "_STEP", _MANY // 20)
    queue, other = await fill(store), store.queue("other")
    await OPERATIONS[name][0](queue)
    waited: list[int] = []
    while (await rows(store))[-1]:
        before = steps
        await other.enqueue([NewMessageRow(str(len(waited)), b"x")], deduplicate_s=0, on_commit=ignore)
        waited.append(steps - before)
    assert steps > 10
    assert waited
    assert max(waited) <= 2


@pytest.mark.long
@pytest.mark.parametrize("name", OPERATIONS)
async def test_a_kill_while_rows_are_removed_changes_nothing(
    tmp_path: Path, store: SqliteStore, clock: Clock, name: str
) -> None:
    queue = await fill(store)
    await OPERATIONS[name][0](queue)
    after = await seen(queue)
    for suffix in ("", "-wal"):
        shutil.copy(tmp_path / f"store.db{suffix}", tmp_path / f"killed.db{suffix}")
    killed = SqliteStore(tmp_path / "killed.db", wall_time=clock)
    await killed.open()
    assert await seen(killed.queue("q")) == after
    assert (await rows(killed))[0] > OPERATIONS[name][1]
    await killed.trim()
    assert (await swept(killed))[:2] == [OPERATIONS[name][1], 0]
    assert await seen(killed.queue("q")) == after
    await killed.close()


async def test_a_consumer_goes_with_all_that_belongs_to_it(store: SqliteStore) -> None:
    queue = await fill(store)
    epoch = (await queue.consumer("slow")).epoch
    failed = [Attempt(position, 1, 0, "rejected", "no", 1.0, 9e9) for position in range(1, 301)]
    await queue.retry("slow", epoch, failed)
    await queue.bury("slow", epoch, failed[:100])
    await queue.remove_consumer("slow")
    assert [one.name for one in await queue.consumers()] == ["fast"]
    assert (await queue.info()).dead == 0
    assert await swept(store) == [0, 0, 0, 0, 1, 0]
    await queue.add_consumer("slow")
    assert (await queue.consumer("slow")).waiting == 0


async def test_a_consumer_that_is_moved_lets_go_of_what_it_had_not_settled(store: SqliteStore) -> None:
    queue = await fill(store)
    epoch = (await queue.consumer("slow")).epoch
    failed = [Attempt(position, 1, 0, "rejected", "no", 1.0, 1.0) for position in range(1, 301)]
    await queue.retry("slow", epoch, failed)
    await queue.seek("slow", FromPosition(_MANY - 2))
    assert await positions(queue, "slow") == [_MANY - 2, _MANY - 1, _MANY]
    retries = await queue.fetch_retries("slow", upto=_MANY, held=(), max_messages=UNLIMITED, max_bytes=UNLIMITED)
    assert (retries.messages, retries.next_at) == ((), None)
    assert (await swept(store))[:2] == [3, 0]
    await settle(queue, "slow", [_MANY - 2, _MANY])
    assert (await queue.info()).messages == 1


async def test_lost_messages_are_told_as_one_loss_and_late_acks_of_them_are_ignored(store: SqliteStore) -> None:
    queue = await fill(store)
    await settle(queue, "slow", [5, 6, 7])
    await queue.configure(_LIMITS, b"{}")
    found = await queue.consumer("slow")
    assert found.lost == Loss(_MANY - 100 - 3, 1, _MANY - 100)
    assert (await queue.info()).dropped == _MANY - 103
    await settle(queue, "slow", [1, 2, _MANY])
    assert (await queue.consumer("slow")).waiting == 99
    assert await positions(queue, "slow") == list(range(_MANY - 99, _MANY))


async def test_messages_purged_before_they_are_due_never_come(store: SqliteStore, clock: Clock) -> None:
    queue = await fill(store)
    later = [NewMessageRow(f"later {number}", b"", delay_s=10) for number in range(500)]
    await queue.enqueue(later, deduplicate_s=0, on_commit=ignore)
    assert await queue.purge() == _MANY + 500
    await queue.enqueue(later[:1], deduplicate_s=0, on_commit=ignore)
    assert (await queue.info()).delayed == 1
    clock.now += 11
    await store.release_due()
    found = await queue.peek(after=0, max_messages=UNLIMITED, max_bytes=UNLIMITED)
    assert [one.id for one in found] == ["later 0"]
    assert (await swept(store))[2] == 0


async def test_what_is_left_of_a_deleted_queue_takes_nothing_from_the_next(store: SqliteStore) -> None:
    queue = await fill(store)
    await queue.purge()
    await queue.delete()
    again = await fill(store)
    await swept(store)
    assert (await again.info()).messages == len(await positions(again, "slow")) == _MANY


async def test_acks_during_a_count_are_kept_and_the_count_is_right(store: SqliteStore) -> None:
    queue = await fill(store)
    epoch = (await queue.consumer("slow")).epoch
    acks = [queue.settle("slow", epoch, [position]) for position in range(1, _MANY, 100)]
    purging = asyncio.ensure_future(queue.purge(upto=_MANY - 500))
    await asyncio.gather(purging, *acks)
    info = await queue.info()
    late = [position for position in range(1, _MANY, 100) if position > _MANY - 500]
    found = await positions(queue, "slow")
    assert purging.result() + info.messages <= _MANY
    assert info.messages == len(found)
    assert {*range(_MANY - 499, _MANY + 1)} - {*late} <= {*found}
    assert (await queue.consumer("slow")).waiting == len(found)


async def test_what_is_kept_for_a_while_does_not_hold_up_the_end_of_a_consumer(store: SqliteStore) -> None:
    queue = store.queue("q")
    await queue.configure(QueueLimits(keep_settled_s=1000), b"{}")
    for name in ("gone", "stays"):
        await queue.add_consumer(name)
    await queue.enqueue([NewMessageRow("m", b"x")], deduplicate_s=0, on_commit=ignore)
    epoch = (await queue.consumer("gone")).epoch
    await queue.bury("gone", epoch, [Attempt(1, 1, 0, "rejected", "no", 1.0)])
    await queue.redrive(DeadLetterFilter(), after=0, max_letters=9, spacing_s=0, first_at=0)
    await queue.remove_consumer("gone")
    assert (await swept(store))[-2:] == [1, 0]
    assert [one.position for one in await queue.peek(after=0, max_messages=9, max_bytes=99)] == [1, 2]
