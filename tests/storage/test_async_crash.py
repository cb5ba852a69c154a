"""Crashes of what is reported before it is on disk: no position is given twice, and what may be lost is told."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.storage import async_child
from tests.storage.backends import UNLIMITED, Clock, fill, ignore, put, read_all
from waypost.errors import PositionGone
from waypost.storage.sqlite.journals.deferred import BLOCK
from waypost.storage.sqlite.store import SqliteStore

ROUNDS = 8
DEADLINE_S = 60.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
async def store(path: Path, clock: Clock) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path, durability="async", wall_time=clock)
    await store.open()
    yield store
    await store.close()


async def abandon(store: SqliteStore) -> None:
    """Leave a store as a kill does: what is written is on disk, and nothing is said of an end."""
    opened = store._open()
    writer, connection = opened.writer, opened.writer._transaction.connection
    connection.set_authorizer(lambda *_: sqlite3.SQLITE_DENY)
    store._deferred = False
    await store.close()
    assert writer._closed


async def write_and_end(path: Path, after_s: float, *, kills: bool) -> list[list[str]]:
    """Let a process write for a while, kill it or let it close its store, and return what it was told."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, async_child.__file__, str(path), stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdin is not None
    ready = await asyncio.wait_for(child.stdout.readline(), DEADLINE_S)
    assert ready.startswith(b"ready")
    first = await asyncio.wait_for(child.stdout.readline(), DEADLINE_S)
    output = asyncio.create_task(child.stdout.read())
    await asyncio.sleep(after_s)
    if kills:
        child.kill()
    else:
        child.stdin.close()
    lines = (first + await asyncio.wait_for(output, DEADLINE_S)).decode().splitlines()
    assert await asyncio.wait_for(child.wait(), DEADLINE_S) == (-9 if kills else 0)
    child.stdin.close()
    return [line.split() for line in lines]


async def check(
    path: Path, told: list[list[str]], generations: dict[str, str], messages: dict[str, str], *, killed: bool
) -> None:
    """Check what is in the file after a round."""
    store = SqliteStore(path, durability="async")
    await store.open()
    for name in async_child.JOURNALS:
        journal = await store.journal(name)
        given = [int(position) for kind, one, position, *_ in told if (kind, one) == ("entry", name)]
        entries = await read_all(journal, journal.oldest - 1)
        kept = {entry.position: entry.record.removesuffix(async_child.PAYLOAD).decode() for entry in entries}
        if killed:
            assert generations.get(name) not in journal.ends
            assert not kept
            assert journal.top >= max(given, default=0), "nothing that may have been given is given again"
        else:
            assert name not in generations or journal.ends[generations[name]] == journal.top
            assert [*kept] == [*range(journal.oldest, journal.top + 1)]
            assert {int(at): token for kind, one, at, token, *_ in told if (kind, one) == ("entry", name)} == {
                position: kept[position] for position in given
            }
        for kind, one, _, token, *_ in told:
            if (kind, one) == ("session", name):
                session = await journal.find_session(token.encode())
                assert (session is None) == killed
    found = await store.queue("q").fetch("c", after=0, max_messages=UNLIMITED, max_bytes=UNLIMITED)
    stored = {str(message.position): message.id for message in found}
    assert messages.items() <= stored.items(), "queues lose nothing"
    await store.close()


@pytest.mark.long
async def test_no_position_is_given_twice_and_a_loss_is_told(path: Path, rng: random.Random) -> None:
    seen: dict[tuple[str, str], str] = {}
    messages: dict[str, str] = {}
    for number in range(ROUNDS):
        generations: dict[str, str] = {}
        told = await write_and_end(path, after_s=rng.uniform(0.02, 0.3), kills=number % 4 != 3)
        for kind, name, position, token, *generation in told:
            if kind == "entry":
                assert (name, position) not in seen, "given twice"
                seen[name, position] = token
                assert generations.setdefault(name, generation[0]) == generation[0], "within a run one history"
            elif kind == "message":
                messages[position] = token
        await check(path, told, generations, messages, killed=number % 4 != 3)
    assert len(seen) > ROUNDS
    assert messages


async def test_a_store_that_was_not_closed_begins_anew(
    store: SqliteStore, path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    journal, idle = await store.journal("/"), await store.journal("/idle")
    await fill(journal, 5)
    await journal.open_session(b"k", "sid", b"", ignore)
    await journal.open_session(b"gone", "sid", b"", ignore)
    await journal.detach_session(b"gone", clock.now - 1)
    await store.expire_sessions()
    await put(store.queue("q"), "id")
    await abandon(store)
    other = SqliteStore(path, wall_time=clock)
    await other.open()
    assert "was not closed, and its last events may be lost" in caplog.text
    again = await other.journal("/")
    assert again.generation != journal.generation
    assert (again.top, again.oldest, again.size_bytes) == (BLOCK, BLOCK + 1, 0)
    assert (await other.journal("/idle")).generation != idle.generation
    assert await again.find_session(b"k") is None
    assert await again.find_session(b"gone") is None, "not even that they expired is known for certain"
    assert await again.append(b"new", ignore) == BLOCK + 1
    assert again.size_bytes == 3
    for after in (0, 4, 5, BLOCK - 1):
        with pytest.raises(PositionGone):
            await read_all(again, after)
    assert [entry.record for entry in await read_all(again, BLOCK)] == [b"new"]
    assert (await other.queue("q").info()).top == 1
    await other.trim()
    assert (again.oldest, again.size_bytes) == (BLOCK + 1, 3)
    await other.close()
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM chunk").fetchone() == (1,), "what stood before is gone"
    connection.close()
    await other.open()
    again = await other.journal("/")
    assert (again.top, again.oldest, again.size_bytes) == (BLOCK + 1, BLOCK + 1, 3)
    await other.close()


async def test_a_fork_without_a_new_entry_is_kept(store: SqliteStore, path: Path) -> None:
    await fill(await store.journal("/"), 5)
    lost = (await store.journal("/")).generation
    await abandon(store)
    generations = set()
    for _ in range(2):
        await store.open()
        journal = await store.journal("/")
        generations.add(journal.generation)
        assert lost not in journal.ends
        assert (journal.top, journal.oldest) == (BLOCK, BLOCK + 1)
        await store.close()
    assert len(generations) == 2


async def test_a_journal_that_nobody_used_has_lost_nothing(store: SqliteStore) -> None:
    journal = await store.journal("/")
    await fill(journal, 5)
    await store.close()
    await store.open()
    await store.journal("/other")
    await abandon(store)
    await store.open()
    again = await store.journal("/")
    assert again.ends[journal.generation] == 5
    assert (again.top, again.oldest) == (5, 1)
    await store.close()
