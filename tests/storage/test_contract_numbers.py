"""The storage contract, on every backend: what a store says of its size and its commits."""

from __future__ import annotations

import pytest

from tests.storage.backends import Clock, Factory, Hosted, fill, flush, keeps
from tests.support.waiting import until_async
from waypost.storage.base import Store
from waypost.storage.journal_records import Retention
from waypost.storage.store_numbers import Commits, StoreCounts


async def test_the_size_tells_how_far_back_the_journals_reach(factory: Factory, clock: Clock) -> None:
    store = factory(wall_time=clock, retention=Retention(max_entries=2))
    await store.open()
    began = clock.now
    journals = [await store.journal(name) for name in ("/old", "/new", "/empty")]
    await fill(journals[0], 1)
    await flush(journals[0])
    for _ in range(3):
        clock.now += 1000
        for journal in journals[:2]:
            await fill(journal, 1)
            await flush(journal)
    await store.trim()
    size = await store.size()
    assert size.oldest_at == {"/old": pytest.approx(began + 2000), "/new": pytest.approx(began + 2000)}
    if keeps(store):
        assert size.bytes is not None
        assert size.bytes > 0
    else:
        assert (size.bytes, size.free_bytes) == (None, None)
    await store.close()


async def test_commits_are_counted_and_taken_once(store: Store) -> None:
    def take() -> StoreCounts:
        if isinstance(store, Hosted):
            store.beat()
        return store.take_counts()

    found = StoreCounts()

    async def look() -> int:
        found.add(take())
        return found.commit_rows[-1]

    if not keeps(store):
        assert take() == StoreCounts()
        return
    journal = await store.journal("/")
    await look()
    before = found.commit_rows[-1]
    await fill(journal, 10)
    await until_async(look, lambda writes: writes >= before + 10, "all writes are counted")
    commits = sum(found.commit_rows[:-1])
    assert 1 <= commits == sum(found.commit_seconds[:-1])
    assert found.commit_seconds[-1] > 0
    assert found.errors == 0


def test_what_was_counted_is_taken_once() -> None:
    commits = Commits()
    commits.committed(2_000_000, 3)
    commits.failed(2)
    first = commits.take()
    assert (first.commit_seconds[-1], first.commit_rows[-1], first.errors) == (2_000_000, 3, 2)
    assert commits.take() == StoreCounts()
    commits.committed(5, 1)
    assert commits.take().commit_rows[-1] == 1


async def test_a_closed_store_counts_nothing(factory: Factory, clock: Clock) -> None:
    assert factory(wall_time=clock).take_counts() == StoreCounts()
