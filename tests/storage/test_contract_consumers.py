"""The storage contract, sentence by sentence, on every backend: consumers, failures, dead letters."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from tests.storage.backends import QUEUE_BACKENDS, UNLIMITED, Clock, Factory, ignore, keeps, positions, settle
from waypost.storage.base import Store
from waypost.storage.queue_base import DEAD_LETTER_S, MAX_HISTORY, StoredQueue
from waypost.storage.queue_records import (
    Attempt,
    DeadLetterFilter,
    DeadLetterRow,
    ExpiredConsumer,
    FromPosition,
    FromTime,
    HistoryItem,
    NewMessageRow,
)

pytestmark = pytest.mark.parametrize("factory", QUEUE_BACKENDS, indirect=True)
ANY = DeadLetterFilter()


async def fill(queue: StoredQueue, messages: int, *, keys: Sequence[str | None] = (None,)) -> None:
    for number in range(1, messages + 1):
        message = NewMessageRow(f"m{number}", b"%d" % number, keys[number % len(keys)])
        await queue.enqueue([message], deduplicate_s=0, on_commit=ignore)


async def fail(queue: StoredQueue, position: int, failures: int, at: float, retry_at: float = 0) -> None:
    epoch = (await queue.consumer("c")).epoch
    await queue.retry("c", epoch, [Attempt(position, failures, 0, "rejected", f"no {failures}", at, retry_at)])


async def bury(
    queue: StoredQueue, *numbers: int, at: float = 1.0, consumer: str = "c", reason: str = "never"
) -> None:
    epoch = (await queue.consumer(consumer)).epoch
    await queue.bury(consumer, epoch, [Attempt(number, 5, 1, "expired", reason, at) for number in numbers])


async def letters(queue: StoredQueue, matching: DeadLetterFilter = ANY, after: int = 0) -> list[DeadLetterRow]:
    return await queue.dead_letters(matching, after=after, max_letters=UNLIMITED, max_bytes=UNLIMITED)


async def redrive(queue: StoredQueue, matching: DeadLetterFilter = ANY, **how: float) -> int:
    spacing_s, first_at = how.get("spacing_s", 0.0), how.get("first_at", 0.0)
    redriven = await queue.redrive(matching, after=0, max_letters=1000, spacing_s=spacing_s, first_at=first_at)
    return redriven.letters


async def test_where_a_consumer_may_start(store: Store, clock: Clock) -> None:
    queue = store.queue("q")
    for _ in range(4):
        await fill(queue, 1)
        clock.now += 10
    for name, start, first in (
        ("oldest", "oldest", 1),
        ("new", "new", 5),
        ("position", FromPosition(3), 3),
        ("beyond", FromPosition(99), 5),
        ("before", FromPosition(-9), 1),
        ("time", FromTime(clock.now - 30), 2),
        ("between", FromTime(clock.now - 25), 3),
        ("later", FromTime(clock.now), 5),
    ):
        info = await queue.add_consumer(name, start=start)  # type: ignore[arg-type]
        assert info.cursor == first - 1, name
    await fill(queue, 1)
    assert await positions(queue, "new") == [5]
    assert await positions(queue, "beyond") == [5]
    assert (await queue.add_consumer("new", start="oldest")).cursor == 4, "it exists"


async def test_seeking_voids_acks_from_before(store: Store) -> None:
    queue = store.queue("q")
    await queue.add_consumer("slow")
    former = await queue.add_consumer("c")
    await fill(queue, 6)
    await settle(queue, "c", [1, 2, 4])
    await fail(queue, 3, 1, 1.0)
    sought = await queue.seek("c", FromPosition(2))
    assert sought.epoch > former.epoch
    assert (sought.cursor, sought.waiting, sought.retrying) == (1, 5, 0)
    stale = await queue.settle("c", former.epoch, [2, 3])
    assert (stale.epoch, stale.waiting) == (sought.epoch, 5), "ignored"
    assert await positions(queue, "c") == [2, 3, 4, 5, 6]
    assert (await queue.seek("c", "new")).waiting == 0
    assert (await queue.info()).messages == 6, "for the slow one"
    assert (await queue.seek("slow", FromPosition(5))).waiting == 2
    assert (await queue.info()).messages == 2, "what was skipped is settled"
    assert (await queue.seek("c", "oldest")).waiting == 2


@pytest.mark.parametrize("how", ["remove", "seek", "remove one that is not there"])
async def test_what_nobody_has_wanted_yet_stays_when_a_consumer_goes(store: Store, how: str) -> None:
    queue = store.queue("q")
    await fill(queue, 2)
    await queue.add_consumer("c", start="new")
    await fill(queue, 2)
    await queue.add_consumer("d", start="new")
    if how == "seek":
        await queue.seek("c", "new")
    else:
        await queue.remove_consumer("c" if how == "remove" else "nobody")
    left = {1, 2} if how != "remove one that is not there" else {1, 2, 3, 4}
    assert {message.position for message in await queue.peek(after=0, max_messages=9, max_bytes=UNLIMITED)} == left
    await queue.add_consumer("e", start="oldest")
    found = await queue.fetch("e", after=0, max_messages=9, max_bytes=UNLIMITED)
    assert {message.position for message in found} == left


async def test_epochs_are_never_used_twice(store: Store) -> None:
    queue = store.queue("q")
    epochs = {(await queue.add_consumer(name)).epoch for name in ("a", "b")}
    epochs.add((await queue.seek("a", "new")).epoch)
    await queue.remove_consumer("a")
    epochs.add((await queue.add_consumer("a")).epoch)
    assert len(epochs) == 4


async def test_a_pause_is_kept(store: Store, clock: Clock) -> None:
    queue = store.queue("q")
    await queue.add_consumer("c")
    await queue.pause("c", until=clock.now + 5)
    assert (await queue.consumer("c")).paused_until == clock.now + 5
    await queue.pause("c", until=clock.now)
    assert (await queue.consumer("c")).paused_until is None
    await queue.pause(None, until=math.inf)
    assert (await queue.info()).paused_until == math.inf
    assert (await queue.consumer("c")).paused_until is None


async def test_what_failed_comes_again_when_its_time_has_come(store: Store, clock: Clock) -> None:
    queue = store.queue("q")
    await queue.add_consumer("c")
    await fill(queue, 5)
    await fail(queue, 2, 1, clock.now, clock.now + 5)
    await fail(queue, 4, 1, clock.now, clock.now + 2)

    async def due(*held: int, upto: int = 99, most: int = 9) -> tuple[list[int], float | None]:
        retries = await queue.fetch_retries("c", upto=upto, held=held, max_messages=most, max_bytes=UNLIMITED)
        return [message.position for message in retries.messages], retries.next_at

    assert await due() == ([], clock.now + 2)
    clock.now += 2
    assert await due() == ([4], clock.now + 3)
    assert await due(4) == ([], clock.now + 3)
    assert await due(upto=3) == ([], clock.now + 3)
    clock.now += 3
    assert await due() == ([4, 2], None), "in the order of their times"
    assert await due(most=1) == ([4], None)
    found = await queue.fetch("c", after=0, max_messages=9, max_bytes=UNLIMITED)
    assert [(one.position, one.failures, one.retry_at > 0) for one in found] == [
        (1, 0, False),
        (2, 1, True),
        (3, 0, False),
        (4, 1, True),
        (5, 0, False),
    ]
    info = await queue.consumer("c")
    assert (info.waiting, info.retrying, info.failed, info.redelivered) == (5, 2, 2, 2)
    await settle(queue, "c", [4])
    assert await due() == ([2], None)


async def test_messages_of_one_key(store: Store) -> None:
    queue = store.queue("q")
    await queue.add_consumer("c")
    await fill(queue, 9, keys=("a", "b", None))
    await settle(queue, "c", [1, 6])

    async def of(key: str, after: int = 0, upto: int = 99, most: int = 9) -> list[int]:
        found = await queue.fetch_key("c", key, after=after, upto=upto, max_messages=most, max_bytes=UNLIMITED)
        return [message.position for message in found]

    assert await of("a") == [3, 9]
    assert await of("b") == [4, 7]
    assert await of("b", after=4) == [7]
    assert await of("b", upto=6) == [4]
    assert await of("b", most=1) == [4]
    assert await of("nothing") == []


async def test_a_dead_letter_has_all_that_happened(store: Store, clock: Clock) -> None:
    queue = store.queue("q")
    for name in ("c", "other"):
        await queue.add_consumer(name)
    await fill(queue, 3, keys=("key",))
    await fail(queue, 2, 1, 10.0)
    await fail(queue, 2, 2, 20.0)
    await bury(queue, 2, at=30.0)
    (letter,) = await letters(queue)
    said = (letter.consumer, letter.position, letter.id, letter.record, letter.key, letter.enqueued_at)
    assert said == ("c", 2, "m2", b"2", "key", clock.now)
    assert (letter.died_at, letter.reason, letter.failures, letter.losses) == (30.0, "never", 5, 1)
    assert letter.history == (
        HistoryItem(10.0, "rejected", "no 1"),
        HistoryItem(20.0, "rejected", "no 2"),
        HistoryItem(30.0, "expired", "never"),
    )
    info = await queue.consumer("c")
    assert (info.waiting, info.dead, info.failed, info.redelivered) == (2, 1, 5, 6)
    assert (await queue.info()).dead == 1
    assert await positions(queue, "other") == [1, 2, 3], "each consumer for itself"
    await bury(queue, 2, 99)
    await settle(queue, "other", [2])
    assert len(await letters(queue)) == 1, "it needs its message no more"


async def test_a_history_keeps_the_last_attempts(store: Store) -> None:
    queue = store.queue("q")
    await queue.add_consumer("c")
    await fill(queue, 1)
    for number in range(1, MAX_HISTORY + 4):
        await fail(queue, 1, number, float(number))
    await bury(queue, 1, at=99.0)
    (letter,) = await letters(queue)
    assert len(letter.history) == MAX_HISTORY
    assert [item.at for item in letter.history][-2:] == [MAX_HISTORY + 3.0, 99.0]


async def test_dead_letters_are_found_by_a_filter(store: Store) -> None:
    queue = store.queue("q")
    for name in ("c", "other"):
        await queue.add_consumer(name)
    await fill(queue, 4, keys=("a", "b"))
    await bury(queue, 1, at=1.0, reason="a timeout")
    await bury(queue, 2, 3, at=2.0)
    await bury(queue, 1, at=3.0, consumer="other")
    everything = await letters(queue)
    numbers = [one.number for one in everything]
    assert numbers == sorted(numbers)
    assert await letters(queue, after=numbers[1]) == everything[2:]
    for matching, expected in (
        (DeadLetterFilter(consumer="c"), [1, 2, 3]),
        (DeadLetterFilter(consumer="nobody"), []),
        (DeadLetterFilter(numbers=numbers[1:3]), [2, 3]),
        (DeadLetterFilter(numbers=()), []),
        (DeadLetterFilter(id="m1"), [1, 1]),
        (DeadLetterFilter(key="a"), [2]),
        (DeadLetterFilter(reason="timeout"), [1]),
        (DeadLetterFilter(died_after=2.0), [2, 3, 1]),
        (DeadLetterFilter(died_before=2.0), [1]),
        (DeadLetterFilter(consumer="c", key="b", died_after=2.0), [3]),
    ):
        assert [one.position for one in await letters(queue, matching)] == expected, matching
    some = await queue.dead_letters(ANY, after=0, max_letters=9, max_bytes=1)
    assert len(some) == 1, "the first one is always returned"


async def test_what_is_redriven_is_for_its_consumer_alone(store: Store) -> None:
    queue = store.queue("q")
    for name in ("c", "other"):
        await queue.add_consumer(name)
    await fill(queue, 3)
    await bury(queue, 1, 2)
    await settle(queue, "c", [3])
    assert await redrive(queue, DeadLetterFilter(id="m1")) == 1
    assert await positions(queue, "c") == [4]
    (again,) = await queue.fetch("c", after=0, max_messages=9, max_bytes=UNLIMITED)
    assert (again.id, again.record, again.failures, again.losses) == ("m1", b"1", 0, 0)
    assert await positions(queue, "other") == [1, 2, 3]
    assert (await queue.consumer("c")).dead == 1
    await settle(queue, "other", [1, 2, 3])
    assert (await queue.info()).messages == 1
    await bury(queue, 4, at=50.0)
    assert [one.history[0].at for one in await letters(queue)] == [1.0, 1.0], "its history goes on"
    assert await redrive(queue) == 2
    await settle(queue, "c", await positions(queue, "c"))
    assert (await queue.info()).messages == 0


async def test_redriving_at_a_rate_outlives_a_restart(factory: Factory, clock: Clock) -> None:
    store = factory(wall_time=clock)
    await store.open()
    queue = store.queue("q")
    await queue.add_consumer("c")
    await fill(queue, 3)
    await bury(queue, 1, 2, 3)
    assert await redrive(queue, spacing_s=10, first_at=clock.now) == 3
    assert await positions(queue, "c") == [4]
    assert (await queue.info()).delayed == 2
    assert await letters(queue) == []
    if keeps(store):
        await store.close()
        await store.open()
        queue = store.queue("q")
    clock.now += 10
    assert (await store.release_due()).next_at == clock.now + 10
    assert await positions(queue, "c") == [4, 5]
    await queue.remove_consumer("c")
    assert (await queue.info()).delayed == 0
    await store.close()


async def test_dead_letters_end(store: Store, clock: Clock) -> None:
    queue = store.queue("q")
    await queue.add_consumer("c")
    await fill(queue, 3)
    await bury(queue, 1, at=clock.now)
    clock.now += 1
    await bury(queue, 2, 3, at=clock.now)
    assert await queue.discard_dead(DeadLetterFilter(id="m3"), max_letters=9) == 1
    assert await queue.discard_dead(DeadLetterFilter(id="m3"), max_letters=9) == 0
    clock.now += DEAD_LETTER_S - 0.5
    await store.trim()
    assert [one.position for one in await letters(queue)] == [2]
    assert ((await queue.info()).dead, (await queue.consumer("c")).dead) == (1, 1)


async def test_a_consumer_that_goes_takes_what_only_it_had_not_settled(store: Store) -> None:
    queue = store.queue("q")
    for name in ("gone", "stays"):
        await queue.add_consumer(name)
    await fill(queue, 4)
    await bury(queue, 4, consumer="gone")
    await settle(queue, "stays", [1, 3])
    await queue.remove_consumer("gone")
    assert [one.name for one in await queue.consumers()] == ["stays"]
    assert ((await queue.info()).messages, (await queue.info()).dead) == (2, 0)
    await queue.remove_consumer("stays")
    assert (await queue.info()).messages == 2, "without a consumer it keeps them"
    await queue.remove_consumer("nobody")


async def test_a_consumer_that_nobody_uses_ends(store: Store, clock: Clock) -> None:
    queue, other = store.queue("q"), store.queue("other")
    await fill(queue, 2)
    for name in ("idle", "attached", "settling"):
        await queue.add_consumer(name)
    await other.add_consumer("idle too")
    await bury(queue, 1, consumer="idle")
    clock.now += 20
    await settle(queue, "settling", [1])
    clock.now += 20
    await queue.add_consumer("new")
    expired = await store.expire_consumers(30, {("q", "attached")})
    assert sorted(expired, key=lambda one: one.consumer) == [
        ExpiredConsumer("q", "idle", 1, 1),
        ExpiredConsumer("other", "idle too", 0, 0),
    ]
    assert [one.name for one in await queue.consumers()] == ["attached", "new", "settling"]
    assert await store.expire_consumers(30, {("q", "attached")}) == []


async def test_reading_on_after_a_consumer_was_moved_back(store: Store) -> None:
    queue = store.queue("q")
    await queue.add_consumer("c")
    await queue.add_consumer("other")
    await fill(queue, 4, keys=("k",))
    await fail(queue, 4, 1, 1.0)
    await settle(queue, "c", [1, 2, 3, 4])
    epoch = (await queue.seek("c", "oldest")).epoch
    await queue.retry("c", epoch, [Attempt(2, 0, 1, "lost", "gone", 1.0)])
    wanted = {"max_messages": UNLIMITED, "max_bytes": UNLIMITED}
    for after in range(5):
        left = [position for position in (1, 2, 3, 4) if position > after]
        assert [one.position for one in await queue.fetch("c", after=after, **wanted)] == left
        assert [one.position for one in await queue.fetch_key("c", "k", after=after, upto=9, **wanted)] == left
