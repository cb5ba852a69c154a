"""Another program that looks at queues and changes them, beside the store's owner."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.storage.backends import UNLIMITED, Clock, positions, put, settle
from tests.storage.test_migration import make_old
from waypost.errors import ConfigurationError, StoreClosed, StoreDamaged
from waypost.storage.queue_records import FromPosition
from waypost.storage.sqlite.store import SqliteStore
from waypost.storage.sqlite.visitor import SqliteVisitor

DEADLINE_S = 60.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
async def store(path: Path, clock: Clock) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path, wall_time=clock)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def visitor(store: SqliteStore, path: Path, clock: Clock) -> AsyncIterator[SqliteVisitor]:
    visitor = SqliteVisitor(path, wall_time=clock)
    await visitor.open()
    yield visitor
    await visitor.close()


async def test_both_see_what_the_other_does(store: SqliteStore, visitor: SqliteVisitor) -> None:
    own, seen = store.queue("q"), visitor.queue("q")
    epoch = (await own.add_consumer("c")).epoch
    for number in range(4):
        await put(own if number % 2 else seen, str(number))
    assert await positions(own, "c") == await positions(seen, "c") == [1, 2, 3, 4]
    await settle(own, "c", [1, 2])
    assert await visitor.queues() == await store.queues()
    await seen.seek("c", FromPosition(4))
    assert (await own.settle("c", epoch, [4])).waiting == 1, "of an epoch that is over"
    assert await positions(own, "c") == [4]
    assert await visitor.configurations() == []


async def test_the_owner_is_told_what_was_changed(store: SqliteStore, visitor: SqliteVisitor) -> None:
    told = asyncio.Event()
    store.watch(told.set)
    await store.queue("read").add_consumer("c")
    await store.release_due()
    await asyncio.sleep(0.2)
    told.clear()
    await visitor.queue("read").peek(after=0, max_messages=1, max_bytes=UNLIMITED)
    await put(visitor.queue("enqueued"), "id")
    await visitor.queue("paused").pause(None, until=1e12)
    async with asyncio.timeout(DEADLINE_S):
        await told.wait()
    assert (await store.release_due()).queues == {"enqueued", "paused"}
    assert (await store.release_due()).queues == frozenset()


async def test_many_writes_at_once_from_both(store: SqliteStore, visitor: SqliteVisitor) -> None:
    async def write(queue_of: SqliteStore | SqliteVisitor, who: str) -> None:
        for number in range(50):
            await put(queue_of.queue("q"), f"{who} {number}")

    await asyncio.gather(write(store, "own"), write(visitor, "other"))
    info = await store.queue("q").info()
    assert (info.top, info.messages) == (100, 100)


async def test_a_file_that_can_not_be_visited_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="the file of a store"):
        await SqliteVisitor(tmp_path / "none.db").open()
    make_old(tmp_path / "old.db")
    before = (tmp_path / "old.db").read_bytes()
    with pytest.raises(StoreDamaged, match="version 2"):
        await SqliteVisitor(tmp_path / "old.db").open()
    assert (tmp_path / "old.db").read_bytes() == before
    (tmp_path / "foreign.db").write_bytes(b"no database" * 20)
    with pytest.raises(StoreDamaged, match="not a database"):
        await SqliteVisitor(tmp_path / "foreign.db").open()


async def test_a_visit_ends(visitor: SqliteVisitor) -> None:
    queue = visitor.queue("q")
    await visitor.close()
    await visitor.close()
    with pytest.raises(StoreClosed):
        await queue.info()
    with pytest.raises(StoreClosed):
        await visitor.queues()
