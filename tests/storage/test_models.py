"""Journals against plain lists, on every backend, with any sequence of calls."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.storage.backends import BACKENDS, Clock, flush, ignore, on_backend
from waypost.errors import PositionGone
from waypost.storage.base import Journal, Store
from waypost.storage.journal_records import Entry, Retention

pytestmark = pytest.mark.long

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
                records = [bytes([(len(model) + number) % 256]) * size for number, size in enumerate(sizes)]
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


@pytest.mark.parametrize("backend", list(BACKENDS))
@given(RETENTIONS, JOURNAL_STEPS)
@settings(max_examples=40)
def test_a_journal_is_what_a_list_would_be(
    backend: str, retention: Retention, steps: list[tuple[object, ...]]
) -> None:
    clock = Clock()
    on_backend(backend, clock, retention, lambda store: run_journal(store, clock, retention, steps))
