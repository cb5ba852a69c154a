"""The storage contract, sentence by sentence, on every backend: queues."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable

import pytest

from tests.storage.backends import QUEUE_BACKENDS, UNLIMITED, Clock, ignore, positions, put, settle
from waypost.errors import StorageError
from waypost.storage.base import Store
from waypost.storage.queue_records import (
    Accepted,
    Attempt,
    ConsumerRow,
    Enqueued,
    MessageRow,
    NewMessageRow,
    QueueRow,
)

pytestmark = pytest.mark.parametrize("factory", QUEUE_BACKENDS, indirect=True)


def where(info: ConsumerRow) -> tuple[int, int]:
    """Return a consumer's cursor, and how many messages wait for it."""
    return info.cursor, info.waiting


async def names(store: Store) -> list[str]:
    return [one.name for one in await store.queues()]


async def test_a_queue_begins_with_its_first_message(store: Store) -> None:
    queue = store.queue("inbox")
    assert queue.name == "inbox"
    assert await queue.info() == QueueRow("inbox")
    assert await names(store) == []
    told: list[Enqueued] = []
    enqueued = await queue.enqueue([NewMessageRow("id", b"record")], deduplicate_s=60, on_commit=told.append)
    assert enqueued == Enqueued((Accepted("id", 1, duplicate=False),))
    assert told == [enqueued]
    assert await names(store) == ["inbox"]


async def test_a_queue_begins_with_its_first_consumer(store: Store) -> None:
    assert where(await store.queue("b").add_consumer("c")) == (0, 0)
    await put(store.queue("a"), "id")
    await put(store.queue("B"), "id")
    assert await names(store) == ["B", "a", "b"]


async def test_info_tells_what_is_kept(store: Store, clock: Clock) -> None:
    queue = store.queue("q")
    began = clock.now
    for number in range(3):
        await put(queue, str(number), b"x" * (number + 1))
        clock.now += 1
    await queue.add_consumer("b")
    await queue.add_consumer("a")
    await settle(queue, "a", [1])
    generation = (await queue.info()).generation
    assert await queue.info() == QueueRow("q", generation, 3, 3, 0, 6, began, consumers=2)
    assert [(one.name, *where(one)) for one in await queue.consumers()] == [("a", 1, 2), ("b", 0, 3)]
    await settle(queue, "b", [1])
    assert await queue.info() == QueueRow("q", generation, 3, 2, 0, 5, began + 1, consumers=2)
    assert await queue.consumers(after="a") == [await queue.consumer("b")]
    assert await store.queue("other").info() == QueueRow("other")
    assert await store.queue("other").consumers() == []


async def test_an_id_is_accepted_once_within_its_window(store: Store, clock: Clock) -> None:
    queue = store.queue("q")
    await put(queue, "other")
    assert await put(queue, "id", deduplicate_s=10) == Accepted("id", 2, duplicate=False)
    clock.now += 9
    assert await put(queue, "id", deduplicate_s=10) == Accepted("id", 2, duplicate=True)
    assert await put(queue, "id", deduplicate_s=5) == Accepted("id", 3, duplicate=False)
    clock.now += 4
    assert await put(queue, "id", deduplicate_s=5) == Accepted("id", 3, duplicate=True)
    clock.now += 1
    assert await put(queue, "id", deduplicate_s=5) == Accepted("id", 4, duplicate=False)
    assert (await queue.info()).messages == 4
    assert await put(store.queue("another"), "id", deduplicate_s=5) == Accepted("id", 1, duplicate=False)


async def test_without_a_window_nothing_is_a_duplicate(store: Store) -> None:
    queue = store.queue("q")
    assert [(await put(queue, "id", deduplicate_s=0)).duplicate for _ in range(3)] == [False] * 3


async def test_an_id_outlives_its_message_until_its_window_ends(store: Store, clock: Clock) -> None:
    queue = store.queue("q")
    await queue.add_consumer("c")
    await put(queue, "id", deduplicate_s=10)
    await settle(queue, "c", [1])
    assert (await queue.info()).messages == 0
    await store.trim()
    assert await put(queue, "id", deduplicate_s=10) == Accepted("id", 1, duplicate=True)
    clock.now += 10
    await store.trim()
    assert await put(queue, "id", deduplicate_s=10) == Accepted("id", 2, duplicate=False)


async def test_duplicates_at_the_same_moment(store: Store) -> None:
    queue = store.queue("q")
    accepted = await asyncio.gather(*(put(queue, f"id {number % 5}") for number in range(50)))
    assert [one.position for one in accepted] == [1, 2, 3, 4, 5] * 10
    assert sum(not one.duplicate for one in accepted) == 5


async def test_messages_come_as_they_were_sent(store: Store, clock: Clock) -> None:
    queue = store.queue("q")
    await put(queue, "é", b"\x00one")
    clock.now += 1
    await put(queue, "two", b"")
    await queue.add_consumer("c")
    assert await queue.fetch("c", after=0, max_messages=10, max_bytes=100) == [
        MessageRow(1, "é", b"\x00one", clock.now - 1),
        MessageRow(2, "two", b"", clock.now),
    ]


async def test_fetch_stops_at_each_limit_and_marks_nothing(store: Store) -> None:
    queue = store.queue("q")
    await queue.add_consumer("c")
    for number in range(6):
        await put(queue, str(number), b"12345")

    async def fetch(after: int, messages: int = 100, size: int = 1000) -> list[int]:
        found = await queue.fetch("c", after=after, max_messages=messages, max_bytes=size)
        return [message.position for message in found]

    assert await fetch(0) == await fetch(0) == [1, 2, 3, 4, 5, 6]
    assert await fetch(2) == [3, 4, 5, 6]
    assert await fetch(0, messages=2) == [1, 2]
    assert await fetch(2, size=10) == [3, 4]
    assert await fetch(2, size=9) == [3]
    assert await fetch(2, size=1) == [3], "the first one is always returned"
    assert await fetch(6) == []
    await settle(queue, "c", [2, 3, 5])
    assert await fetch(0) == [1, 4, 6]
    assert await fetch(1) == [4, 6]
    assert await fetch(0, messages=2) == [1, 4]


async def test_settling_in_order_moves_the_cursor(store: Store) -> None:
    queue = store.queue("q")
    await queue.add_consumer("c")
    for number in range(4):
        await put(queue, str(number))
    assert where(await settle(queue, "c", [1])) == (1, 3)
    assert where(await settle(queue, "c", [3, 2])) == (3, 1)
    assert where(await settle(queue, "c", [])) == (3, 1)
    assert await positions(queue, "c") == [4]


async def test_settling_out_of_order_is_folded_in_when_the_gap_closes(store: Store) -> None:
    queue = store.queue("q")
    await queue.add_consumer("c")
    for number in range(9):
        await put(queue, str(number))
    assert where(await settle(queue, "c", [3])) == (0, 8)
    assert where(await settle(queue, "c", [5, 6])) == (0, 6)
    assert where(await settle(queue, "c", [8])) == (0, 5)
    assert where(await settle(queue, "c", [4])) == (0, 4)
    assert await positions(queue, "c") == [1, 2, 7, 9]
    assert where(await settle(queue, "c", [1])) == (1, 3)
    assert where(await settle(queue, "c", [2])) == (6, 2)
    assert where(await settle(queue, "c", [7, 9])) == (9, 0)
    assert (await queue.info()).messages == 0


async def test_what_was_settled_or_never_was_is_ignored(store: Store) -> None:
    queue = store.queue("q")
    await queue.add_consumer("c")
    for number in range(5):
        await put(queue, str(number))
    await settle(queue, "c", [1, 3])
    assert where(await settle(queue, "c", [1, 3, 3, 0, -1, 6, 99])) == (1, 3)
    assert where(await settle(queue, "c", [2, 3, 4])) == (4, 1)
    await put(queue, "later")
    assert await positions(queue, "c") == [5, 6]


async def test_each_consumer_gets_everything(store: Store) -> None:
    queue = store.queue("q")
    await queue.add_consumer("a")
    await queue.add_consumer("b")
    for number in range(5):
        await put(queue, str(number))
    await settle(queue, "a", [1, 2, 4])
    assert (await queue.info()).messages == 5
    await settle(queue, "b", [4, 5])
    assert await positions(queue, "a") == [3, 5]
    assert await positions(queue, "b") == [1, 2, 3]
    assert (await queue.info()).messages == 4, "both have settled 4"
    await settle(queue, "b", [1, 2])
    assert (await queue.info()).messages == 2
    await settle(queue, "a", [3, 5])
    await settle(queue, "b", [3])
    info = await queue.info()
    assert (info.messages, info.bytes, info.oldest_at) == (0, 0, None)
    assert await put(queue, "next") == Accepted("next", 6, duplicate=False), "positions go on"


async def test_a_queue_without_consumers_keeps_everything(store: Store) -> None:
    queue = store.queue("q")
    for number in range(3):
        await put(queue, str(number))
    await store.trim()
    assert (await queue.info()).messages == 3
    assert where(await queue.add_consumer("late")) == (0, 3)


async def test_a_new_consumer_starts_at_the_oldest_message(store: Store) -> None:
    queue = store.queue("q")
    await queue.add_consumer("first")
    for number in range(9):
        await put(queue, str(number))
    await settle(queue, "first", [1, 2, 4, 6, 7])
    assert where(await queue.add_consumer("second")) == (2, 4)
    assert await positions(queue, "second") == [3, 5, 8, 9]
    await settle(queue, "first", [3, 5, 8, 9])
    assert (await queue.info()).messages == 4
    assert where(await settle(queue, "second", [3, 5])) == (7, 2)
    assert where(await settle(queue, "second", [8, 9])) == (9, 0)
    assert where(await queue.add_consumer("third")) == (9, 0)
    assert where(await queue.add_consumer("second")) == (9, 0)


async def test_lost_deliveries_are_counted_for_each_consumer(store: Store) -> None:
    queue = store.queue("q")
    for name in ("a", "b"):
        await queue.add_consumer(name)
    for number in range(3):
        await put(queue, str(number))
    await settle(queue, "a", [1, 3])
    epoch = (await queue.consumer("a")).epoch
    for number, position in enumerate((1, 2, 2, 3, 4, 0)):
        await queue.retry("a", epoch, [Attempt(position, 0, number, "lost", "gone", 1.0)])
    lost = await queue.fetch("a", after=0, max_messages=9, max_bytes=UNLIMITED)
    assert [(message.position, message.losses) for message in lost] == [(2, 2)]
    others = await queue.fetch("b", after=0, max_messages=9, max_bytes=UNLIMITED)
    assert [message.losses for message in others] == [0, 0, 0]


async def test_broken_connections_and_deaths_are_kept_as_they_are_told(store: Store) -> None:
    queue = store.queue("q")
    epoch = (await queue.add_consumer("c")).epoch
    messages = [NewMessageRow(str(number), b"", "k") for number in range(3)]
    await queue.enqueue(messages, deduplicate_s=0, on_commit=ignore)
    attempts = [
        Attempt(2, 0, 4, "lost", "gone", 1.0, breaks=3, breaks_since=7, deaths=1),
        Attempt(3, 1, 0, "rejected", "no", 1.0, 2.0),
    ]
    await queue.retry("c", epoch, attempts)
    expected = [(1, 0, 0, 0), (2, 3, 7, 1), (3, 0, 0, 0)]

    def told(messages: Iterable[MessageRow]) -> list[tuple[int, int, int, int]]:
        return [(one.position, one.breaks, one.breaks_since, one.deaths) for one in messages]

    assert told(await queue.fetch("c", after=0, max_messages=9, max_bytes=UNLIMITED)) == expected
    by_key = await queue.fetch_key("c", "k", after=0, upto=9, max_messages=9, max_bytes=UNLIMITED)
    assert told(by_key) == expected
    due = await queue.fetch_retries("c", upto=9, held=(), max_messages=9, max_bytes=UNLIMITED)
    assert sorted(told(due.messages)) == expected[1:]


async def test_an_unknown_consumer_is_an_error(store: Store) -> None:
    queue = store.queue("q")
    await put(queue, "id")
    for asked in (
        lambda: queue.fetch("nobody", after=0, max_messages=1, max_bytes=1),
        lambda: queue.settle("nobody", 1, [1]),
        lambda: queue.retry("nobody", 1, [Attempt(1, 1, 0, "lost", "gone", 1.0)]),
        lambda: queue.seek("nobody", "new"),
        lambda: queue.pause("nobody", until=math.inf),
        lambda: queue.consumer("nobody"),
        lambda: store.queue("none").settle("nobody", 1, [1]),
    ):
        with pytest.raises(StorageError, match="has no consumer nobody"):
            await asked()
    assert await names(store) == ["q"]


async def test_a_cancelled_enqueue_is_still_told(store: Store) -> None:
    queue = store.queue("q")
    told: list[Enqueued] = []
    message = NewMessageRow("id", b"")
    task = asyncio.ensure_future(queue.enqueue([message], deduplicate_s=60, on_commit=told.append))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    enqueued = await queue.enqueue([message], deduplicate_s=60, on_commit=ignore)
    assert enqueued.accepted == (Accepted("id", 1, duplicate=True),)
    assert told == [Enqueued((Accepted("id", 1, duplicate=False),))]
