"""The storage contract, sentence by sentence, on every backend: what is put into a queue, and what ends it."""

from __future__ import annotations

import math

import pytest

from tests.storage.backends import QUEUE_BACKENDS, UNLIMITED, Clock, Factory, ignore, keeps, positions, put, settle
from waypost.errors import QueueFull
from waypost.storage.base import Store
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import (
    Accepted,
    Attempt,
    Configuration,
    DeadLetterFilter,
    Enqueued,
    Loss,
    NewMessageRow,
    QueueLimits,
    QueueRow,
)

pytestmark = pytest.mark.parametrize("factory", QUEUE_BACKENDS, indirect=True)


async def enqueue(queue: StoredQueue, *messages: NewMessageRow, deduplicate_s: float = 60) -> Enqueued:
    return await queue.enqueue(messages, deduplicate_s=deduplicate_s, on_commit=ignore)


async def ids(queue: StoredQueue) -> list[str]:
    return [message.id for message in await queue.peek(after=0, max_messages=UNLIMITED, max_bytes=UNLIMITED)]


async def test_messages_of_one_call_stand_together(store: Store) -> None:
    queue = store.queue("q")
    enqueued = await enqueue(queue, *(NewMessageRow(one, b"") for one in ("a", "b", "a", "c")))
    assert enqueued.accepted == (
        Accepted("a", 1, duplicate=False),
        Accepted("b", 2, duplicate=False),
        Accepted("a", 1, duplicate=True),
        Accepted("c", 3, duplicate=False),
    )
    assert await ids(queue) == ["a", "b", "c"]
    many = [NewMessageRow(f"{number}\x00é", b"x") for number in range(1500)]
    await enqueue(queue, *many)
    again = await enqueue(queue, *many)
    assert all(one.duplicate for one in again.accepted)
    assert (await queue.info()).messages == 1503


async def test_what_is_not_due_is_not_in_the_log(store: Store, clock: Clock) -> None:
    queue = store.queue("q")
    await queue.add_consumer("c")
    enqueued = await enqueue(queue, NewMessageRow("later", b"12", delay_s=10), NewMessageRow("now", b"1"))
    assert [one.position for one in enqueued.accepted] == [0, 1]
    assert enqueued.next_due_at == clock.now + 10
    assert await positions(queue, "c") == [1]
    info = await queue.info()
    assert (info.top, info.messages, info.delayed, info.bytes) == (1, 1, 1, 3)
    due = await store.release_due()
    assert (due.queues, due.next_at) == (frozenset(), clock.now + 10)
    repeated = await enqueue(queue, NewMessageRow("later", b""))
    assert repeated.accepted == (Accepted("later", 0, duplicate=True),)
    clock.now += 10
    due = await store.release_due()
    assert (due.queues, due.next_at) == (frozenset({"q"}), None)
    assert await positions(queue, "c") == [1, 2]
    repeated = await enqueue(queue, NewMessageRow("later", b""))
    assert repeated.accepted == (Accepted("later", 2, duplicate=True),)
    assert (await queue.info()).delayed == 0


async def test_delays_end_in_order_of_time_and_then_of_asking(store: Store, clock: Clock) -> None:
    queue, other = store.queue("q"), store.queue("other")
    for number, delay_s in enumerate((3, 1, 2, 1)):
        await enqueue(queue, NewMessageRow(str(number), b"", delay_s=delay_s))
    await enqueue(other, NewMessageRow("long", b"", delay_s=1000))
    clock.now += 2.5
    due = await store.release_due()
    assert (due.queues, due.next_at) == (frozenset({"q"}), clock.now + 0.5)
    assert await ids(queue) == ["1", "3", "2"]
    clock.now += 2000
    assert (await store.release_due()).queues == {"q", "other"}


async def test_a_delay_a_lifetime_and_a_key_outlive_a_restart(factory: Factory, clock: Clock) -> None:
    store = factory(wall_time=clock)
    await store.open()
    if keeps(store):
        queue = store.queue("q")
        await enqueue(queue, NewMessageRow("m", b"record", "key", ttl_s=5, delay_s=10))
        await queue.configure(QueueLimits(max_messages=7), b"settings")
        await queue.pause(None, until=math.inf)
        await store.close()
        await store.open()
        queue = store.queue("q")
        clock.now += 10
        assert (await store.release_due()).queues == {"q"}
        (found,) = await queue.peek(after=0, max_messages=9, max_bytes=9)
        assert (found.id, found.key, found.expires_at) == ("m", "key", clock.now + 5)
        assert await queue.configuration() == Configuration("q", QueueLimits(max_messages=7), b"settings")
        assert (await queue.info()).paused_until == math.inf
    await store.close()


async def test_what_has_outlived_its_time_is_not_delivered(store: Store, clock: Clock) -> None:
    queue = store.queue("q")
    await queue.add_consumer("c")
    await enqueue(queue, NewMessageRow("brief", b"", ttl_s=5), NewMessageRow("lasting", b""))
    clock.now += 4.9
    assert await positions(queue, "c") == [1, 2]
    clock.now += 0.1
    assert await positions(queue, "c") == [2]
    await store.trim()
    info = await queue.info()
    assert (info.messages, info.expired, info.dropped) == (1, 1, 0)
    consumer = await queue.consumer("c")
    assert (consumer.waiting, consumer.cursor, consumer.lost) == (1, 1, None)


async def test_a_full_queue_refuses_with_its_numbers(store: Store) -> None:
    queue = store.queue("q")
    await queue.configure(QueueLimits(max_messages=3, max_bytes=100), b"")
    await enqueue(queue, NewMessageRow("1", b"x" * 10), NewMessageRow("2", b"x" * 10, delay_s=9))
    told: list[Enqueued] = []
    with pytest.raises(QueueFull) as full:
        await queue.enqueue(
            [NewMessageRow("3", b""), NewMessageRow("4", b"")], deduplicate_s=60, on_commit=told.append
        )
    refusal = full.value
    assert (refusal.queue, refusal.messages, refusal.bytes) == ("q", 2, 20)
    assert (refusal.max_messages, refusal.max_bytes) == (3, 100)
    assert told == []
    with pytest.raises(QueueFull):
        await put(queue, "large", b"x" * 81)
    assert (await put(queue, "1")).duplicate, "what is there already needs no room"
    await put(queue, "3", b"x" * 80)
    await queue.add_consumer("c")
    await settle(queue, "c", [1])
    await put(queue, "4", b"x" * 10)


async def test_a_refusal_begins_no_queue(factory: Factory, clock: Clock) -> None:
    store = factory(wall_time=clock, queue_limits=QueueLimits(max_bytes=10))
    await store.open()
    with pytest.raises(QueueFull, match="at most 10"):
        await put(store.queue("q"), "id", b"x" * 11)
    assert await store.queues() == []
    await store.close()


async def test_a_full_queue_may_drop_its_oldest_and_keeps_who_lost_what(store: Store) -> None:
    queue = store.queue("q")
    await queue.configure(QueueLimits(max_messages=3, overflow="drop_oldest"), b"")
    for name in ("behind", "up to date"):
        await queue.add_consumer(name)
    for number in range(1, 4):
        await put(queue, str(number), b"x")
    await settle(queue, "up to date", [1, 2])
    enqueued = await enqueue(queue, NewMessageRow("4", b""), NewMessageRow("5", b""))
    assert enqueued.losers == ("behind",)
    assert await ids(queue) == ["3", "4", "5"]
    behind = await queue.consumer("behind")
    assert (behind.lost, behind.waiting, behind.cursor) == (Loss(2, 1, 2), 3, 2)
    assert (await queue.consumer("up to date")).lost is None
    assert (await enqueue(queue, NewMessageRow("6", b""))).losers == ("behind", "up to date")
    assert (await queue.consumer("behind")).lost == Loss(3, 1, 3)
    assert (await queue.forget_loss("behind", 2)).lost == Loss(3, 1, 3), "it has lost more since"
    assert (await queue.forget_loss("behind", 3)).lost is None
    assert (await queue.info()).dropped == 3
    with pytest.raises(QueueFull):
        await enqueue(queue, *(NewMessageRow(f"much {number}", b"") for number in range(4)))
    assert await ids(queue) == ["4", "5", "6"]


async def test_what_is_too_old_is_lost(store: Store, clock: Clock) -> None:
    queue = store.queue("q")
    await queue.configure(QueueLimits(max_age_s=10), b"")
    await queue.add_consumer("c")
    for _ in range(4):
        await put(queue, "id", deduplicate_s=0)
        clock.now += 4
    await store.trim()
    assert await positions(queue, "c") == [3, 4]
    assert (await queue.consumer("c")).lost == Loss(2, 1, 2)
    await put(store.queue("by default"), "id")
    clock.now += 8 * 24 * 3600
    await store.trim()
    assert (await store.queue("by default").info()).messages == 0


async def test_configurations_are_listed(store: Store) -> None:
    assert await store.queue("q").configuration() == Configuration("q", None, b"")
    await store.queue("b").configure(None, b"two")
    await store.queue("a").configure(QueueLimits(max_bytes=5, overflow="drop_oldest"), b"one")
    await put(store.queue("c"), "id")
    assert await store.configurations() == [
        Configuration("a", QueueLimits(max_bytes=5, overflow="drop_oldest"), b"one"),
        Configuration("b", None, b"two"),
    ]


async def test_queues_are_listed_page_by_page(store: Store) -> None:
    for name in ("é", "b", "a", "😀"):
        await put(store.queue(name), "id")
    page = await store.queues(max_queues=3)
    assert [one.name for one in page] == ["a", "b", "é"]
    assert page[0] == await store.queue("a").info()
    assert [one.name for one in await store.queues(after="é")] == ["😀"]
    await store.queue("b").purge()
    await store.queue("new").add_consumer("c")
    await store.queue("later").enqueue(
        [NewMessageRow("id", b"x", delay_s=60)], deduplicate_s=0, on_commit=lambda _: None
    )
    assert [one.name for one in await store.queues()] == ["a", "b", "later", "new", "é", "😀"]
    assert [one.name for one in await store.queues(idle=False)] == ["a", "later", "é", "😀"]
    await store.queue("a").delete()
    assert [one.name for one in await store.queues(max_queues=2)] == ["b", "later"]


async def test_purging_tells_nobody_of_a_loss(store: Store) -> None:
    queue = store.queue("q")
    await queue.add_consumer("c")
    for number in range(5):
        await put(queue, str(number))
    await enqueue(queue, NewMessageRow("later", b"", delay_s=9))
    await settle(queue, "c", [4])
    assert await queue.purge(upto=2) == 2
    assert await positions(queue, "c") == [3, 5]
    assert await queue.purge() == 3
    info = await queue.info()
    assert (info.messages, info.delayed, info.bytes, info.top) == (0, 0, 0, 5)
    consumer = await queue.consumer("c")
    assert (consumer.waiting, consumer.cursor, consumer.lost) == (0, 5, None)
    assert await store.queue("none").purge() == 0


async def test_a_deleted_queue_begins_anew(store: Store) -> None:
    queue = store.queue("q")
    await queue.add_consumer("c")
    await put(queue, "id")
    former = await queue.info()
    await queue.delete()
    assert await queue.info() == QueueRow("q")
    assert await store.queues() == []
    assert await put(queue, "id") == Accepted("id", 1, duplicate=False)
    assert (await queue.info()).generation != former.generation
    assert await queue.consumers() == []
    await store.queue("none").delete()


async def test_headers_stay_with_a_message_wherever_it_is(store: Store, clock: Clock) -> None:
    queue = store.queue("q")
    headers = '{"tenant":"é"}'
    epoch = (await queue.add_consumer("c")).epoch
    await enqueue(queue, NewMessageRow("now", b"12", headers=headers), NewMessageRow("none", b"1"))
    await enqueue(queue, NewMessageRow("later", b"1", delay_s=10, headers=headers))
    size = len(headers.encode())
    assert (await queue.info()).bytes == 4 + 2 * size
    clock.now += 10
    await store.release_due()
    read = await queue.fetch("c", after=0, max_messages=9, max_bytes=UNLIMITED)
    assert [(one.id, one.headers) for one in read] == [("now", headers), ("none", None), ("later", headers)]
    await queue.retry("c", epoch, [Attempt(1, 1, 0, "rejected", "no", clock.now)])
    again = await queue.fetch_retries("c", upto=9, held=(), max_messages=9, max_bytes=UNLIMITED)
    assert [one.headers for one in again.messages] == [headers]
    await queue.bury("c", epoch, [Attempt(position, 2, 0, "rejected", "no", clock.now) for position in (1, 2)])
    assert (await queue.info()).bytes == 1 + size
    letters = await queue.dead_letters(DeadLetterFilter(), after=0, max_letters=9, max_bytes=UNLIMITED)
    assert [one.headers for one in letters] == [headers, None]
    await queue.redrive(DeadLetterFilter(), after=0, max_letters=9, spacing_s=5, first_at=clock.now)
    clock.now += 5
    await store.release_due()
    peeked = await queue.peek(after=3, max_messages=9, max_bytes=UNLIMITED)
    assert [(one.id, one.headers) for one in peeked] == [("now", headers), ("none", None)]
    assert await queue.purge() == 3
    assert (await queue.info()).bytes == 0


@pytest.mark.parametrize("size", [1_899, 1_900, 1_901, 8_000, 100_000])
async def test_records_of_any_size_stay_what_they_are(store: Store, clock: Clock, size: int) -> None:
    queue = store.queue("q")
    record = bytes(number % 251 for number in range(size))
    epoch = (await queue.add_consumer("c")).epoch
    await enqueue(queue, NewMessageRow("now", record, "key"), NewMessageRow("later", record, delay_s=1))
    clock.now += 1
    await store.release_due()
    assert (await queue.info()).bytes == 2 * size
    found = await queue.fetch("c", after=0, max_messages=9, max_bytes=UNLIMITED)
    found += await queue.fetch_key("c", "key", after=0, upto=9, max_messages=9, max_bytes=UNLIMITED)
    assert [(one.id, one.record == record) for one in found] == [("now", True), ("later", True), ("now", True)]
    await queue.bury("c", epoch, [Attempt(1, 1, 0, "rejected", "no", clock.now)])
    (letter,) = await queue.dead_letters(DeadLetterFilter(), after=0, max_letters=9, max_bytes=UNLIMITED)
    assert letter.record == record
    await queue.redrive(DeadLetterFilter(), after=0, max_letters=9, spacing_s=0, first_at=0)
    assert (await queue.info()).bytes == 2 * size
    await settle(queue, "c", range(1, 9))
    assert (await queue.info()).bytes == 0
