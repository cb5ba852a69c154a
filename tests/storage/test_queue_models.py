"""Queues against plain lists, on every backend, with any sequence of calls."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.storage.backends import UNLIMITED, Clock, ignore, on_backend
from tests.storage.queue_model import QueueModel, page
from waypost.errors import QueueFull
from waypost.storage.base import Store
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import (
    Attempt,
    DeadLetterFilter,
    FromPosition,
    FromTime,
    NewMessageRow,
    QueueLimits,
)

pytestmark = pytest.mark.long

CONSUMERS = st.sampled_from(("a", "b", "c"))
KEYS = st.sampled_from((None, "k", "l"))
POSITION = st.integers(0, 14)
SECONDS = st.integers(0, 8)
PLACES = st.one_of(
    st.sampled_from(("oldest", "new")),
    st.builds(FromPosition, POSITION),
    st.builds(FromTime, st.integers(1_000_000, 1_000_030)),
)
MESSAGES = st.lists(
    st.builds(
        NewMessageRow,
        st.integers(0, 6).map(str),
        st.integers(0, 9).map(bytes),
        KEYS,
        st.sampled_from((None, None, None, 3.0)),
        st.sampled_from((0.0, 0.0, 0.0, 4.0)),
        st.none(),
    ),
    min_size=1,
    max_size=4,
)
# How often it failed and was lost, and after how many seconds it is to be tried again.
ATTEMPT = st.tuples(POSITION, st.integers(0, 3), st.integers(0, 3), SECONDS)
FILTERS = st.builds(
    DeadLetterFilter,
    consumer=st.sampled_from((None, "a", "b")),
    key=KEYS,
    reason=st.sampled_from((None, "1", "nothing")),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("enqueue"), MESSAGES, st.sampled_from((0, 10))),
        st.tuples(st.just("enqueue"), MESSAGES, st.sampled_from((0, 10))),
        st.tuples(st.just("wait"), SECONDS),
        st.tuples(st.just("consumer"), CONSUMERS, PLACES),
        st.tuples(st.just("settle"), CONSUMERS, st.lists(POSITION, max_size=5)),
        st.tuples(st.just("settle"), CONSUMERS, st.lists(POSITION, max_size=5)),
        st.tuples(st.just("retry"), CONSUMERS, ATTEMPT),
        st.tuples(st.just("bury"), CONSUMERS, ATTEMPT),
        st.tuples(st.just("redrive"), FILTERS, st.integers(1, 3), SECONDS, SECONDS),
        st.tuples(st.just("discard"), FILTERS, st.integers(1, 3)),
        st.tuples(st.just("seek"), CONSUMERS, PLACES),
        st.tuples(st.just("remove"), CONSUMERS),
        st.tuples(st.just("told"), CONSUMERS, POSITION),
        st.tuples(st.just("purge"), st.one_of(st.none(), POSITION)),
        st.tuples(st.just("release")),
        st.tuples(st.just("trim")),
    ),
    min_size=15,
    max_size=40,
)
LIMITS = st.builds(
    QueueLimits,
    max_messages=st.sampled_from((4, 9, 1000)),
    max_bytes=st.sampled_from((20, 1000)),
    max_age_s=st.sampled_from((12, 1000)),
    overflow=st.sampled_from(("refuse", "drop_oldest")),
)


class Machine:
    """One queue of a store beside its model."""

    def __init__(self, store: Store, clock: Clock, limits: QueueLimits) -> None:
        self.store = store
        self.clock = clock
        self.queue: StoredQueue = store.queue("q")
        self.model = QueueModel(limits)
        self.epochs: dict[str, int] = {}

    async def run(self, steps: list[tuple[Any, ...]], limits: QueueLimits) -> None:
        await self.queue.configure(limits, b"")
        await self.step(("consumer", "a", "oldest"))
        for step in steps:
            await self.step(step)
            await self.check()

    async def step(self, step: tuple[Any, ...]) -> None:
        queue, model, now = self.queue, self.model, self.clock.now
        match step:
            case ("enqueue", messages, window_s):
                await self.enqueue(messages, window_s)
            case ("wait", seconds):
                self.clock.now += seconds
            case ("consumer", name, place):
                info = await queue.add_consumer(name, start=place)
                assert name not in model.consumers or info.epoch == self.epochs[name]
                self.epochs[name] = info.epoch
                model.add_consumer(name, place, now)
            case ("settle" | "retry" | "bury" | "seek" | "told", name, *_) if name in model.consumers:
                await self.change(name, step)
            case ("redrive", wanted, most, spacing_s, delay_s):
                redriven = await queue.redrive(
                    wanted, after=0, max_letters=most, spacing_s=spacing_s, first_at=now + delay_s
                )
                assert redriven.letters == model.redrive(wanted, most, spacing_s, now + delay_s, now)
            case ("discard", wanted, most):
                assert await queue.discard_dead(wanted, max_letters=most) == model.discard(wanted, most)
            case ("remove", name):
                await queue.remove_consumer(name)
                model.remove_consumer(name)
            case ("purge", upto):
                had = {one: {*consumer.unsettled} for one, consumer in model.consumers.items()}
                assert await queue.purge(upto=upto) == model.purge(upto)
                for one in await queue.consumers():
                    lost_some = {*model.consumers[one.name].unsettled} != had[one.name]
                    assert (one.epoch > self.epochs[one.name]) == lost_some
                    self.epochs[one.name] = one.epoch
            case ("release",):
                assert (await self.store.release_due()).next_at == model.release(now)
            case ("trim",):
                await self.store.trim()
                model.trim(now)

    async def enqueue(self, messages: list[NewMessageRow], window_s: float) -> None:
        expected = self.model.enqueue(messages, window_s, self.clock.now)
        if expected is None:
            with pytest.raises(QueueFull) as full:
                await self.queue.enqueue(messages, deduplicate_s=window_s, on_commit=ignore)
            kept = len(self.model.kept) + len(self.model.delayed)
            assert (full.value.messages, full.value.bytes) == (kept, self.model.bytes)
            return
        enqueued = await self.queue.enqueue(messages, deduplicate_s=window_s, on_commit=ignore)
        assert [*enqueued.accepted] == expected
        due = [one.due_at for one in self.model.delayed]
        assert enqueued.next_due_at is None or enqueued.next_due_at in due

    async def change(self, name: str, step: tuple[Any, ...]) -> None:
        queue, model, now, epoch = self.queue, self.model, self.clock.now, self.epochs[name]
        match step:
            case ("settle", _, positions):
                stale = await queue.settle(name, epoch - 1, positions)
                assert stale == await queue.consumer(name), "an old epoch changes nothing"
                await queue.settle(name, epoch, positions)
                model.settle(name, positions, now)
            case ("retry", _, (position, failures, losses, delay_s)):
                attempt = Attempt(
                    position,
                    failures,
                    losses,
                    "rejected",
                    f"{failures}",
                    now,
                    now + delay_s,
                    losses,
                    failures,
                    losses,
                )
                # Twice, as after an error whose write took effect all the same.
                for _ in range(2):
                    await queue.retry(name, epoch, [attempt])
                model.retry(name, attempt)
            case ("bury", _, (position, failures, losses, _)):
                attempt = Attempt(position, failures, losses, "expired", f"{failures}", now)
                for _ in range(2):
                    await queue.bury(name, epoch, [attempt])
                model.bury(name, attempt)
            case ("seek", _, place):
                info = await queue.seek(name, place)
                assert info.epoch > epoch
                self.epochs[name] = info.epoch
                model.seek(name, place)
            case ("told", _, upto):
                await queue.forget_loss(name, upto)
                lost = model.consumers[name].lost
                if lost is not None and lost.last <= upto:
                    model.consumers[name].lost = None

    async def check(self) -> None:
        info = await self.queue.info()
        assert info == self.model.info("q", info.generation)
        states = await self.queue.consumers()
        assert states == [
            self.model.consumer_info(name, info.generation, epoch)
            for name, epoch in sorted(self.epochs.items())
            if name in self.model.consumers
        ]
        kept = await self.queue.peek(after=0, max_messages=UNLIMITED, max_bytes=UNLIMITED)
        assert kept == [message for message, _, _ in self.model.kept]
        letters = await self.queue.dead_letters(
            DeadLetterFilter(), after=0, max_letters=UNLIMITED, max_bytes=UNLIMITED
        )
        assert [(one.consumer, one.position, one.history) for one in letters] == [
            (one.consumer, one.position, one.history) for one in self.model.letters
        ]
        for name in self.model.consumers:
            await self.check_reading(name)

    async def check_reading(self, name: str) -> None:
        now = self.clock.now
        unsettled = self.model.unsettled(name, now)
        for after, most, size in ((0, UNLIMITED, UNLIMITED), (2, 2, UNLIMITED), (0, 5, 11)):
            found = await self.queue.fetch(name, after=after, max_messages=most, max_bytes=size)
            assert found == page([one for one in unsettled if one.position > after], most, size)
        with_key = await self.queue.fetch_key(name, "k", after=1, upto=9, max_messages=3, max_bytes=UNLIMITED)
        assert with_key == [one for one in unsettled if one.key == "k" and 1 < one.position <= 9][:3]
        retries = await self.queue.fetch_retries(name, upto=10, held={3}, max_messages=2, max_bytes=UNLIMITED)
        due = sorted((one for one in unsettled if 0 < one.retry_at <= now), key=lambda m: (m.retry_at, m.position))
        assert [*retries.messages] == [one for one in due if one.position <= 10 and one.position != 3][:2]
        everything = [message.retry_at for message, _ in self.model.consumers[name].unsettled.values()]
        assert retries.next_at == min((at for at in everything if at > now), default=None)


def run_on(backend: str, limits: QueueLimits, steps: list[tuple[Any, ...]]) -> None:
    clock = Clock()
    on_backend(backend, clock, None, lambda store: Machine(store, clock, limits).run(steps, limits))


@given(LIMITS, STEPS)
@settings(max_examples=100)
def test_a_queue_in_memory_is_what_a_list_would_be(limits: QueueLimits, steps: list[tuple[Any, ...]]) -> None:
    run_on("memory", limits, steps)


@given(LIMITS, STEPS)
@settings(max_examples=25)
def test_a_queue_in_a_file_is_what_a_list_would_be(limits: QueueLimits, steps: list[tuple[Any, ...]]) -> None:
    run_on("sqlite", limits, steps)
