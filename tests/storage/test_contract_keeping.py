"""Messages that all consumers have settled are kept for a while, on every backend."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.storage.backends import QUEUE_BACKENDS, Clock, Factory, ignore, positions, put, settle
from waypost.errors import QueueFull
from waypost.storage.base import Store
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import Attempt, FromPosition, NewMessageRow, QueueLimits
from waypost.storage.sqlite.store import SqliteStore

pytestmark = pytest.mark.parametrize("factory", QUEUE_BACKENDS, indirect=True)

KEEP_S = 1000.0
KEEPING = QueueLimits(keep_settled_s=KEEP_S)
# Their time may be rounded up by a hundredth.
OVER_S = KEEP_S * 1.02


async def keeping(store: Store, messages: int, limits: QueueLimits = KEEPING, consumer: str = "c") -> StoredQueue:
    """Make a queue that keeps what is settled, with a consumer and messages."""
    queue = store.queue("q")
    await queue.configure(limits, b"{}")
    await queue.add_consumer(consumer)
    for number in range(messages):
        await put(queue, str(number))
    return queue


async def there(queue: StoredQueue) -> list[int]:
    return [one.position for one in await queue.peek(after=0, max_messages=9999, max_bytes=1 << 30)]


async def test_what_all_have_settled_stays_for_its_time(store: Store, clock: Clock) -> None:
    queue = await keeping(store, 3)
    assert (await settle(queue, "c", [1, 3])).waiting == 1
    clock.now += KEEP_S / 2
    await settle(queue, "c", [2])
    await store.trim()
    assert await there(queue) == [1, 2, 3]
    assert (await queue.info()).messages == 3
    assert await positions(queue, "c") == []
    clock.now += OVER_S / 2
    await store.trim()
    assert await there(queue) == [2]
    clock.now += OVER_S / 2
    await store.trim()
    info = await queue.info()
    assert (await there(queue), info.messages, info.bytes, info.dropped) == ([], 0, 0, 0)


async def test_a_new_consumer_begins_with_it_and_a_seek_back_finds_it(store: Store, clock: Clock) -> None:
    queue = await keeping(store, 4)
    await settle(queue, "c", [1, 2, 3])
    assert (await queue.add_consumer("new device")).waiting == 4
    assert await positions(queue, "new device") == [1, 2, 3, 4]
    assert (await queue.seek("c", FromPosition(2))).waiting == 3
    assert await positions(queue, "c") == [2, 3, 4]
    assert (await queue.add_consumer("late", start="new")).waiting == 0


async def test_what_somebody_wants_again_stays_and_its_time_begins_anew(store: Store, clock: Clock) -> None:
    queue = await keeping(store, 3)
    await settle(queue, "c", [1, 2, 3])
    clock.now += KEEP_S / 2
    await queue.seek("c", FromPosition(2))
    await settle(queue, "c", [2])
    clock.now += OVER_S / 2
    await store.trim()
    assert await there(queue) == [2, 3]
    assert await positions(queue, "c") == [3]
    clock.now += OVER_S
    await store.trim()
    assert await there(queue) == [3]
    await settle(queue, "c", [3])
    await store.trim()
    assert await there(queue) == [3]
    clock.now += OVER_S
    await store.trim()
    assert await there(queue) == []


async def test_what_is_given_up_skipped_or_left_by_a_consumer_is_kept_too(store: Store, clock: Clock) -> None:
    queue = await keeping(store, 4)
    await queue.add_consumer("other")
    await settle(queue, "other", [1, 2, 3, 4])
    await queue.bury("c", (await queue.consumer("c")).epoch, [Attempt(1, 1, 0, "rejected", "no", clock.now)])
    await queue.seek("c", FromPosition(4))
    await queue.remove_consumer("c")
    assert await there(queue) == [1, 2, 3, 4]
    clock.now += OVER_S
    await store.trim()
    assert await there(queue) == []


@pytest.mark.parametrize("overflow", ["refuse", "drop_oldest"])
async def test_a_full_queue_lets_them_go_first(store: Store, overflow: str) -> None:
    limits = QueueLimits(max_messages=4, keep_settled_s=KEEP_S, overflow=overflow)  # type: ignore[arg-type]
    queue = await keeping(store, 4, limits)
    await settle(queue, "c", [2, 3])
    await put(queue, "5")
    assert await there(queue) == [1, 3, 4, 5]
    await queue.enqueue([NewMessageRow("6", b"r")], deduplicate_s=0, on_commit=ignore)
    assert await there(queue) == [1, 4, 5, 6]
    assert (await queue.consumer("c")).lost is None
    if overflow == "refuse":
        with pytest.raises(QueueFull):
            await put(queue, "7")
        assert await there(queue) == [1, 4, 5, 6]
    else:
        await put(queue, "7")
        assert await there(queue) == [4, 5, 6, 7]


async def test_bytes_are_freed_as_well(store: Store) -> None:
    limits = QueueLimits(max_bytes=100, keep_settled_s=KEEP_S)
    queue = await keeping(store, 0, limits)
    for number in range(5):
        await put(queue, str(number), b"x" * 20)
    await settle(queue, "c", [1, 2, 3, 4])
    await put(queue, "large", b"x" * 50)
    assert await there(queue) == [4, 5, 6]
    assert (await queue.info()).bytes == 90


async def test_only_queues_that_are_told_to_keep(factory: Factory, clock: Clock) -> None:
    store = factory(queue_limits=KEEPING, wall_time=clock)
    await store.open()
    for name, limits in (("default", None), ("none", QueueLimits()), ("own", QueueLimits(keep_settled_s=10))):
        queue = store.queue(name)
        if limits is not None:
            await queue.configure(limits, b"{}")
        await queue.add_consumer("c")
        await put(queue, "1")
        await settle(queue, "c", [1])
    found = {name: await there(store.queue(name)) for name in ("default", "none", "own")}
    assert found == {"default": [1], "none": [], "own": [1]}
    clock.now += 15
    await store.trim()
    assert [await there(store.queue(name)) for name in ("default", "own")] == [[1], []]
    # Once they shall keep no more, all of it goes.
    await store.queue("default").configure(QueueLimits(), b"{}")
    clock.now += KEEP_S / 50
    await store.trim()
    assert await there(store.queue("default")) == []
    await store.close()


async def test_they_are_purged_and_go_with_their_queue(store: Store, clock: Clock) -> None:
    queue = await keeping(store, 3)
    await settle(queue, "c", [1, 2, 3])
    assert await queue.purge(upto=2) == 2
    assert await there(queue) == [3]
    await queue.delete()
    queue = await keeping(store, 1)
    clock.now += OVER_S
    await store.trim()
    assert await positions(queue, "c") == [1]


async def test_many_are_kept_by_few_rows_and_over_a_restart(factory: Factory, clock: Clock, tmp_path: Path) -> None:
    store = factory(wall_time=clock)
    await store.open()
    queue = await keeping(store, 0)
    messages = [NewMessageRow(str(number), b"r") for number in range(1200)]
    await queue.enqueue(messages, deduplicate_s=0, on_commit=ignore)
    for first in range(1, 1200, 100):
        await settle(queue, "c", range(first, first + 100))
        clock.now += 0.1
    assert len(await there(queue)) == 1200
    if isinstance(store, SqliteStore):
        reader: Callable[..., int] = lambda c: c.execute("SELECT count(*) FROM settled").fetchone()[0]  # noqa: E731
        assert await store._open().reader.run(reader) <= 2
    clock.now += OVER_S
    await store.trim()
    assert await there(queue) == []
    await store.close()


async def test_what_was_purged_while_it_was_kept_is_counted_once(store: Store, clock: Clock) -> None:
    queue = await keeping(store, 0)
    for first in range(0, 3000, 1000):
        messages = [NewMessageRow(str(number), b"r") for number in range(first, first + 1000)]
        await queue.enqueue(messages, deduplicate_s=0, on_commit=ignore)
        await settle(queue, "c", range(first + 1, first + 1001))
    clock.now += OVER_S
    # Rows that are gone are removed later, in steps.
    await queue.purge()
    await put(queue, "new", b"12345")
    await store.trim()
    info = await queue.info()
    assert (info.messages, info.bytes, await there(queue)) == (1, 5, [3001])
