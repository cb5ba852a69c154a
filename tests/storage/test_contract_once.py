"""Entries with ids: each is appended once within its window, and the journal's follower is told of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.storage.backends import Clock, keeps
from tests.storage.followers import Rows
from tests.support.waiting import until
from waypost.storage.base import Store
from waypost.storage.outside import OutsideWrite
from waypost.storage.postgres.store import PostgresStore
from waypost.storage.sqlite import outbox
from waypost.storage.sqlite.file import open_beside
from waypost.storage.sqlite.store import SqliteStore


async def told(store: Store, rows: Rows) -> list[bytes]:
    """Append an entry that ends the wait, and return the records of all that the follower was told of before."""
    end = f"end {len(rows.rows)}"
    await store.append_once(rows.journal.name, end.encode(), end, 1.0)
    if isinstance(store, PostgresStore):
        await store._open().mover.move()
    await until(lambda: any(row[1] == end.encode() for row in rows.rows), "the last entry was told")
    records = [row[1] for row in rows.rows]
    return [one for one in records if isinstance(one, bytes) and not one.startswith(b"end")]


async def test_an_entry_is_appended_once_within_its_window(store: Store, clock: Clock) -> None:
    rows, other = Rows(await store.journal("/")), Rows(await store.journal("/other"))
    assert await store.append_once("/", b"first", "x\0", 60)
    is_new = await store.append_once("/", b"again", "x\0", 60)
    assert is_new == isinstance(store, PostgresStore), "only PostgreSQL finds out later"
    assert await store.append_once("/", b"second", "y", 60)
    assert await store.append_once("/other", b"elsewhere", "x\0", 60)
    assert await told(store, rows) == [b"first", b"second"]
    assert await told(store, other) == [b"elsewhere"]
    clock.now += 59
    await store.append_once("/", b"again", "x\0", 60)
    assert await told(store, rows) == [b"first", b"second"]
    clock.now += 2
    assert await store.append_once("/", b"later", "x\0", 60)
    assert await told(store, rows) == [b"first", b"second", b"later"]
    entries = await rows.journal.read(0, rows.journal.top, max_entries=100, max_bytes=1000)
    assert [one.record for one in entries if not one.record.startswith(b"end")] == [b"first", b"second", b"later"]


async def test_ids_are_remembered_over_a_restart(store: Store) -> None:
    await store.journal("/")
    assert await store.append_once("/", b"first", "x", 60)
    if isinstance(store, PostgresStore):
        await store._open().mover.move()
    await store.close()
    await store.open()
    rows = Rows(await store.journal("/"))
    await store.append_once("/", b"again", "x", 60)
    assert await told(store, rows) == ([] if keeps(store) else [b"again"])


async def test_without_a_journal_nothing_is_done(store: Store) -> None:
    assert await store.append_once("/nowhere", b"lost", "x", 60)
    if isinstance(store, PostgresStore):
        await store._open().mover.move()
    assert (await store.journal("/nowhere")).top == 0


async def test_trimming_forgets_no_id_within_its_window(store: Store, clock: Clock) -> None:
    rows = Rows(await store.journal("/"))
    await store.append_once("/", b"first", "x", 60)
    assert await told(store, rows) == [b"first"]
    clock.now += 30
    await store.trim()
    await store.append_once("/", b"again", "x", 60)
    assert await told(store, rows) == [b"first"]


@pytest.mark.parametrize("durability", ["commit", "async"])
async def test_ids_of_other_programs_count_too(tmp_path: Path, clock: Clock, durability: str) -> None:
    store = SqliteStore(tmp_path / "store.db", durability=durability, wall_time=clock)  # type: ignore[arg-type]
    await store.open()
    rows = Rows(await store.journal("/"))
    connection = open_beside(tmp_path / "store.db")
    wanted = OutsideWrite("emit", "/", content=b"from outside")
    for write_id in ("x", "y"):
        assert write_id == "x" or await store.append_once("/", b"own", "y", 60)
        outbox.write(connection, wanted, write_id=write_id, deduplicate_s=60)
    connection.close()
    await store.release_due()
    assert not await store.append_once("/", b"own", "x", 60)
    assert await told(store, rows) == [b"own", b"from outside"]
    await store.close()
