"""Queues and journals against plain lists, on every backend, with any sequence of calls."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.storage.backends import BACKENDS, UNLIMITED, Clock, flush, ignore, put
from waypost.errors import PositionGone
from waypost.storage.base import Entry, Journal, Retention, Store
from waypost.storage.queue_base import Queue

CONSUMERS = ("a", "b", "c")
POSITION = st.integers(0, 14)

QUEUE_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("enqueue"), st.integers(0, 4), st.integers(0, 9)),
        st.tuples(st.just("wait"), st.integers(0, 8)),
        st.tuples(st.just("consumer"), st.sampled_from(CONSUMERS)),
        st.tuples(st.just("settle"), st.sampled_from(CONSUMERS), st.lists(POSITION, max_size=5)),
        st.tuples(st.just("lost"), st.sampled_from(CONSUMERS), POSITION),
        st.tuples(st.just("trim")),
    ),
    max_size=40,
)
JOURNAL_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.lists(st.integers(0, 30), min_size=1, max_size=12)),
        st.tuples(st.just("wait"), st.integers(0, 6)),
        st.tuples(st.just("trim")),
        st.tuples(st.just("read"), st.integers(0, 60), st.integers(0, 70), st.integers(1, 15), st.integers(0, 99)),
    ),
    max_size=30,
)
RETENTIONS = st.builds(
    Retention, max_age_s=st.integers(1, 20), max_entries=st.integers(0, 25), max_bytes=st.integers(0, 300)
)
WINDOW_S = 10


@dataclass
class QueueModel:
    """A queue as anybody would write it down."""

    messages: dict[int, tuple[str, int]] = field(default_factory=dict)
    top: int = 0
    accepted: dict[str, tuple[int, float]] = field(default_factory=dict)
    done: dict[str, set[int]] = field(default_factory=dict)
    lost: dict[tuple[str, int], int] = field(default_factory=dict)

    def enqueue(self, message_id: str, size: int, now: float) -> tuple[int, bool]:
        if message_id in self.accepted and now - self.accepted[message_id][1] < WINDOW_S:
            return self.accepted[message_id][0], True
        self.top += 1
        self.accepted[message_id] = (self.top, now)
        self.messages[self.top] = (message_id, size)
        return self.top, False

    def add_consumer(self, name: str) -> None:
        gone = {*range(1, self.top + 1)} - {*self.messages}
        self.done.setdefault(name, gone)

    def settle(self, name: str, settled: list[int]) -> None:
        self.done[name] |= {*settled} & {*range(1, self.top + 1)}
        for position in [*self.messages]:
            if all(position in done for done in self.done.values()):
                del self.messages[position]

    def waiting(self, name: str) -> list[int]:
        return [position for position in self.messages if position not in self.done[name]]

    def cursor(self, name: str) -> int:
        return min((*self.waiting(name), self.top + 1)) - 1


async def check_queue(queue: Queue, model: QueueModel) -> None:
    info = await queue.info()
    assert (info.top, info.messages) == (model.top, len(model.messages))
    assert info.bytes == sum(size for _, size in model.messages.values())
    assert [one.name for one in info.consumers] == sorted(model.done)
    for one in info.consumers:
        waiting = model.waiting(one.name)
        assert one.waiting == len(waiting)
        # Where nothing waits below them, a cursor may stand anywhere among what is removed.
        assert one.cursor == model.cursor(one.name)
        found = await queue.fetch(one.name, after=0, max_messages=UNLIMITED, max_bytes=UNLIMITED)
        assert [message.position for message in found] == waiting
        for message in found:
            assert (message.id, len(message.record)) == model.messages[message.position]
            assert message.deliveries == model.lost.get((one.name, message.position), 0)


async def run_queue(store: Store, clock: Clock, steps: list[tuple[object, ...]]) -> None:
    queue, model = store.queue("q"), QueueModel()
    for step in steps:
        match step:
            case ("enqueue", int(number), int(size)):
                accepted = await put(queue, str(number), b"x" * size, deduplicate_s=WINDOW_S)
                assert (accepted.position, accepted.duplicate) == model.enqueue(str(number), size, clock.now)
            case ("wait", int(seconds)):
                clock.now += seconds
            case ("consumer", str(name)):
                await queue.add_consumer(name)
                model.add_consumer(name)
            case ("settle", str(name), list(settled)) if name in model.done:
                info = await queue.settle(name, settled)
                model.settle(name, settled)
                assert info.waiting == len(model.waiting(name))
            case ("lost", str(name), int(position)) if name in model.done:
                await queue.count_delivery(name, position)
                if position in model.waiting(name):
                    model.lost[name, position] = model.lost.get((name, position), 0) + 1
            case ("trim",):
                await store.trim()
    await check_queue(queue, model)


async def check_read(journal: Journal, model: list[bytes], after: int, upto: int, entries: int, size: int) -> None:
    expected: list[Entry] = []
    for position, record in enumerate(model, 1):
        if after < position <= upto and len(expected) < entries:
            if expected and sum(len(one.record) for one in expected) + len(record) > size:
                break
            expected.append(Entry(position, record))
    try:
        assert await journal.read(after, upto, max_entries=entries, max_bytes=size) == expected
    except PositionGone:
        assert expected
        assert after + 1 < journal.oldest


async def run_journal(store: Store, clock: Clock, retention: Retention, steps: list[tuple[object, ...]]) -> None:
    journal = await store.journal("/")
    model: list[bytes] = []
    times: list[float] = []
    for step in steps:
        match step:
            case ("append", list(sizes)):
                records = [bytes([len(model) + number]) * size for number, size in enumerate(sizes)]
                await asyncio.gather(*(journal.append(record, ignore) for record in records))
                await flush(journal)
                model += records
                times += [clock.now] * len(sizes)
            case ("wait", int(seconds)):
                clock.now += seconds
            case ("trim",):
                await store.trim()
                kept = [
                    position
                    for position in range(1, len(model) + 1)
                    if len(model) - position < retention.max_entries
                    and sum(len(record) for record in model[position - 1 :]) <= retention.max_bytes
                    and times[position - 1] >= clock.now - retention.max_age_s
                ]
                assert journal.oldest == min((*kept, len(model) + 1))
                assert journal.size_bytes == sum(len(model[position - 1]) for position in kept)
            case ("read", int(after), int(upto), int(entries), int(size)):
                await check_read(journal, model, after, upto, entries, size)
        assert journal.top == len(model)


def on_backend(
    backend: str, clock: Clock, retention: Retention | None, run: Callable[[Store], Awaitable[None]]
) -> None:
    async def main(directory: Path) -> None:
        store = BACKENDS[backend](directory)(retention=retention, wall_time=clock)
        await store.open()
        await run(store)
        await store.close()

    directory = Path(tempfile.mkdtemp(prefix="waypost-model-"))
    try:
        asyncio.run(main(directory))
    finally:
        shutil.rmtree(directory)


@pytest.mark.parametrize("backend", ["memory", "sqlite"])
@given(QUEUE_STEPS)
@settings(max_examples=60, deadline=None)
def test_a_queue_is_what_a_list_would_be(backend: str, steps: list[tuple[object, ...]]) -> None:
    clock = Clock()
    on_backend(backend, clock, None, lambda store: run_queue(store, clock, steps))


@pytest.mark.parametrize("backend", list(BACKENDS))
@given(RETENTIONS, JOURNAL_STEPS)
@settings(max_examples=40, deadline=None)
def test_a_journal_is_what_a_list_would_be(
    backend: str, retention: Retention, steps: list[tuple[object, ...]]
) -> None:
    clock = Clock()
    on_backend(backend, clock, retention, lambda store: run_journal(store, clock, retention, steps))
