"""The storage contract, sentence by sentence, on every backend: queues."""

from __future__ import annotations

import asyncio

import pytest

from tests.storage.backends import UNLIMITED, Clock, ignore, positions, put
from waypost.errors import StorageError
from waypost.storage.base import Store
from waypost.storage.queue_base import Accepted, ConsumerInfo, Message, QueueInfo


async def test_a_queue_begins_with_its_first_message(store: Store) -> None:
    queue = store.queue("inbox")
    assert queue.name == "inbox"
    assert await queue.info() == QueueInfo("inbox", 0, 0, 0, None, ())
    assert await store.queues() == []
    told: list[Accepted] = []
    accepted = await queue.enqueue("id", b"record", deduplicate_s=60, on_commit=told.append)
    assert accepted == Accepted("id", 1, duplicate=False)
    assert told == [accepted]
    assert await store.queues() == ["inbox"]


async def test_a_queue_begins_with_its_first_consumer(store: Store) -> None:
    assert await store.queue("b").add_consumer("c") == ConsumerInfo("c", 0, 0)
    await put(store.queue("a"), "id")
    await put(store.queue("B"), "id")
    assert await store.queues() == ["B", "a", "b"]


async def test_info_tells_what_is_kept(store: Store, clock: Clock) -> None:
    queue = store.queue("q")
    began = clock.now
    for number in range(3):
        await put(queue, str(number), b"x" * (number + 1))
        clock.now += 1
    await queue.add_consumer("b")
    await queue.add_consumer("a")
    await queue.settle("a", [1])
    consumers = (ConsumerInfo("a", 1, 2), ConsumerInfo("b", 0, 3))
    assert await queue.info() == QueueInfo("q", 3, 3, 6, began, consumers)
    await queue.settle("b", [1])
    consumers = (ConsumerInfo("a", 1, 2), ConsumerInfo("b", 1, 2))
    assert await queue.info() == QueueInfo("q", 3, 2, 5, began + 1, consumers)
    assert await store.queue("other").info() == QueueInfo("other", 0, 0, 0, None, ())


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
    await queue.settle("c", [1])
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
        Message(1, "é", b"\x00one", clock.now - 1, 0),
        Message(2, "two", b"", clock.now, 0),
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
    await queue.settle("c", [2, 3, 5])
    assert await fetch(0) == [1, 4, 6]
    assert await fetch(1) == [4, 6]
    assert await fetch(0, messages=2) == [1, 4]


async def test_settling_in_order_moves_the_cursor(store: Store) -> None:
    queue = store.queue("q")
    await queue.add_consumer("c")
    for number in range(4):
        await put(queue, str(number))
    assert await queue.settle("c", [1]) == ConsumerInfo("c", 1, 3)
    assert await queue.settle("c", [3, 2]) == ConsumerInfo("c", 3, 1)
    assert await queue.settle("c", []) == ConsumerInfo("c", 3, 1)
    assert await positions(queue, "c") == [4]


async def test_settling_out_of_order_is_folded_in_when_the_gap_closes(store: Store) -> None:
    queue = store.queue("q")
    await queue.add_consumer("c")
    for number in range(9):
        await put(queue, str(number))
    assert await queue.settle("c", [3]) == ConsumerInfo("c", 0, 8)
    assert await queue.settle("c", [5, 6]) == ConsumerInfo("c", 0, 6)
    assert await queue.settle("c", [8]) == ConsumerInfo("c", 0, 5)
    assert await queue.settle("c", [4]) == ConsumerInfo("c", 0, 4)
    assert await positions(queue, "c") == [1, 2, 7, 9]
    assert await queue.settle("c", [1]) == ConsumerInfo("c", 1, 3)
    assert await queue.settle("c", [2]) == ConsumerInfo("c", 6, 2)
    assert await queue.settle("c", [7, 9]) == ConsumerInfo("c", 9, 0)
    assert (await queue.info()).messages == 0


async def test_what_was_settled_or_never_was_is_ignored(store: Store) -> None:
    queue = store.queue("q")
    await queue.add_consumer("c")
    for number in range(5):
        await put(queue, str(number))
    await queue.settle("c", [1, 3])
    assert await queue.settle("c", [1, 3, 3, 0, -1, 6, 99]) == ConsumerInfo("c", 1, 3)
    assert await queue.settle("c", [2, 3, 4]) == ConsumerInfo("c", 4, 1)
    await put(queue, "later")
    assert await positions(queue, "c") == [5, 6]


async def test_each_consumer_gets_everything(store: Store) -> None:
    queue = store.queue("q")
    await queue.add_consumer("a")
    await queue.add_consumer("b")
    for number in range(5):
        await put(queue, str(number))
    await queue.settle("a", [1, 2, 4])
    assert (await queue.info()).messages == 5
    await queue.settle("b", [4, 5])
    assert await positions(queue, "a") == [3, 5]
    assert await positions(queue, "b") == [1, 2, 3]
    assert (await queue.info()).messages == 4, "both have settled 4"
    await queue.settle("b", [1, 2])
    assert (await queue.info()).messages == 2
    await queue.settle("a", [3, 5])
    await queue.settle("b", [3])
    info = await queue.info()
    assert (info.messages, info.bytes, info.oldest_at) == (0, 0, None)
    assert await put(queue, "next") == Accepted("next", 6, duplicate=False), "positions go on"


async def test_a_queue_without_consumers_keeps_everything(store: Store) -> None:
    queue = store.queue("q")
    for number in range(3):
        await put(queue, str(number))
    await store.trim()
    assert (await queue.info()).messages == 3
    assert await queue.add_consumer("late") == ConsumerInfo("late", 0, 3)


async def test_a_new_consumer_starts_at_the_oldest_message(store: Store) -> None:
    queue = store.queue("q")
    await queue.add_consumer("first")
    for number in range(9):
        await put(queue, str(number))
    await queue.settle("first", [1, 2, 4, 6, 7])
    assert await queue.add_consumer("second") == ConsumerInfo("second", 2, 4)
    assert await positions(queue, "second") == [3, 5, 8, 9]
    await queue.settle("first", [3, 5, 8, 9])
    assert (await queue.info()).messages == 4
    assert await queue.settle("second", [3, 5]) == ConsumerInfo("second", 7, 2)
    assert await queue.settle("second", [8, 9]) == ConsumerInfo("second", 9, 0)
    assert await queue.add_consumer("third") == ConsumerInfo("third", 9, 0)
    assert await queue.add_consumer("second") == ConsumerInfo("second", 9, 0)


async def test_lost_deliveries_are_counted_for_each_consumer(store: Store) -> None:
    queue = store.queue("q")
    for name in ("a", "b"):
        await queue.add_consumer(name)
    for number in range(3):
        await put(queue, str(number))
    await queue.settle("a", [1, 3])
    for position in (1, 2, 2, 3, 4, 0):
        await queue.count_delivery("a", position)
    lost = await queue.fetch("a", after=0, max_messages=9, max_bytes=UNLIMITED)
    assert [(message.position, message.deliveries) for message in lost] == [(2, 2)]
    others = await queue.fetch("b", after=0, max_messages=9, max_bytes=UNLIMITED)
    assert [message.deliveries for message in others] == [0, 0, 0]


async def test_an_unknown_consumer_is_an_error(store: Store) -> None:
    queue = store.queue("q")
    await put(queue, "id")
    for asked in (
        lambda: queue.fetch("nobody", after=0, max_messages=1, max_bytes=1),
        lambda: queue.settle("nobody", [1]),
        lambda: queue.count_delivery("nobody", 1),
        lambda: store.queue("none").settle("nobody", [1]),
    ):
        with pytest.raises(StorageError, match="has no consumer nobody"):
            await asked()
    assert await store.queues() == ["q"]


async def test_a_cancelled_enqueue_is_still_told(store: Store) -> None:
    queue = store.queue("q")
    told: list[Accepted] = []
    task = asyncio.create_task(queue.enqueue("id", b"", deduplicate_s=60, on_commit=told.append))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    accepted = await queue.enqueue("id", b"", deduplicate_s=60, on_commit=ignore)
    assert accepted == Accepted("id", 1, duplicate=True)
    assert told == [Accepted("id", 1, duplicate=False)]
