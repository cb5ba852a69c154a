"""What is SQLite's own: its file, its owner, damage, a full disk, and what a restart finds."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.storage import full_child
from tests.storage.backends import Clock, fill, ignore, put, read_all, record_of
from waypost.errors import (
    ConfigurationError,
    PositionGone,
    StorageError,
    StoreBusy,
    StoreDamaged,
    StoreFull,
)
from waypost.storage.journal_records import Entry, ExpiredSession, Membership, Retention, SessionRow
from waypost.storage.sqlite import file as sqlite_file
from waypost.storage.sqlite.jobs import Transaction
from waypost.storage.sqlite.store import SqliteStore
from waypost.version import __version__

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


def read(path: Path) -> bytes:
    return path.read_bytes()


def write(path: Path, content: bytes, at: int = 0) -> None:
    """Write into a file; at 0, anew."""
    with path.open("r+b" if at else "wb") as file:
        file.seek(at)
        file.write(content)


async def refused(path: Path) -> StoreDamaged:
    """Open a file that must be refused and left as it is."""
    before = read(path)
    with pytest.raises(StoreDamaged) as refusal:
        await SqliteStore(path).open()
    assert read(path) == before
    return refusal.value


async def test_says_that_it_is_durable(store: SqliteStore, path: Path) -> None:
    assert store.capabilities.durable
    assert str(path) in store.capabilities.description


async def test_every_commit_is_flushed_to_the_disk(store: SqliteStore) -> None:
    def settings(tx: Transaction) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return [tx.connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    assert await store._open().writer.submit(settings) == ["wal", 2, 1], "2 is FULL"


def test_there_are_two_durabilities(path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r'durability=.eventual.: expected "commit" or "async"'):
        SqliteStore(path, durability="eventual")  # type: ignore[arg-type]


async def test_needs_a_directory_and_a_file(tmp_path: Path) -> None:
    for wrong in (tmp_path / "missing" / "store.db", tmp_path):
        with pytest.raises(ConfigurationError, match=r"a regular file, but it is a directory|a file in a directory"):
            await SqliteStore(wrong).open()
    assert os.listdir(tmp_path) == []


async def test_a_file_that_can_not_be_opened_is_a_matter_of_configuration(tmp_path: Path) -> None:
    os.symlink("loop", tmp_path / "loop")
    with pytest.raises(ConfigurationError, match="path="):
        await SqliteStore(tmp_path / "loop").open()


async def test_a_directory_that_takes_no_owner_is_a_matter_of_configuration(path: Path) -> None:
    os.mkdir(f"{path}-owner")
    with pytest.raises(ConfigurationError, match="a directory that can be written to"):
        await SqliteStore(path).open()


async def test_has_one_owner(store: SqliteStore, path: Path, tmp_path: Path) -> None:
    alias = tmp_path / "alias.db"
    os.symlink(path, alias)
    for other in (path, alias):
        with pytest.raises(StoreBusy):
            await SqliteStore(other).open()
    with pytest.raises(StorageError, match="open already"):
        await store.open()
    await store.close()
    other_store = SqliteStore(alias)
    await other_store.open()
    await other_store.close()


async def test_what_is_no_database_is_refused(path: Path) -> None:
    write(path, b"Dear diary" * 1000)
    assert "not a database" in str(await refused(path))


async def test_another_program_s_database_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE diary (entry TEXT)")
    connection.close()
    assert "another program" in str(await refused(path))


async def test_a_newer_format_is_refused(store: SqliteStore, path: Path) -> None:
    await store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreDamaged, match=f"version 99, .*; use Waypost {__version__} or later"):
        await SqliteStore(path).open()


async def test_an_empty_file_is_a_new_store(path: Path) -> None:
    write(path, b"")
    store = SqliteStore(path)
    await store.open()
    assert (await store.journal("/")).top == 0
    await store.close()


@pytest.mark.parametrize("full_check_bytes", [0, 64 << 20], ids=["large", "small"])
async def test_a_damaged_file_is_refused(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch, full_check_bytes: int
) -> None:
    monkeypatch.setattr(sqlite_file, "_FULL_CHECK_BYTES", full_check_bytes)
    await fill(await store.journal("/"), 500)
    await put(store.queue("q"), "id", b"x" * 100_000)
    await store.close()
    whole = read(path)
    write(path, whole[: len(whole) // 2])
    assert "move it away" in str(await refused(path))
    write(path, whole[:60])
    await refused(path)
    write(path, whole[:8192] + b"\xa5" * 8192 * 12 + whole[8192 * 13 :])
    await refused(path)
    write(path, whole)
    await store.open()
    assert len(await read_all(await store.journal("/"))) == 500


async def test_a_large_copy_that_was_cut_short_is_refused(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "_FULL_CHECK_BYTES", 0)
    journal = await store.journal("/")
    for size in (1, 500_000, 1):
        await journal.append(b"x" * size, ignore)
    await store.close()
    # What is cut off belongs to an entry in the middle, which the check does not read.
    write(path, read(path)[:-8192])
    assert "move it away" in str(await refused(path))


async def test_damage_is_told_where_it_is_read(path: Path) -> None:
    store = SqliteStore(path, tail_bytes=0)
    await store.open()
    journal = await store.journal("/")
    await fill(journal, 100)
    await store.close()
    await store.open()
    connection = sqlite3.connect(path)
    (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'chunk'").fetchone()
    connection.close()
    write(path, b"\xa5" * 8192, at=(root - 1) * 8192)
    with pytest.raises(StoreDamaged):
        await store.journal("/")
    await store.close()


async def test_a_restart_finds_everything(store: SqliteStore, path: Path, clock: Clock) -> None:
    journal = await store.journal("/")
    await fill(journal, 10)
    await journal.open_session(b"k", "sid", b"data", ignore)
    await journal.join(b"k", ["room"], ignore)
    journal.prove(b"k", 12, 11)
    await put(store.queue("q"), "id", b"message")
    await store.queue("q").add_consumer("c")
    await store.close()
    assert f"{path.name}-wal" not in os.listdir(path.parent), "a clean close leaves one file"
    clock.now += 5
    other = SqliteStore(path, wall_time=clock, orphan_ttl_s=100)
    await other.open()
    again = await other.journal("/")
    assert again.generation != journal.generation
    assert again.ends == {journal.generation: 10}
    assert (again.top, again.oldest) == (10, 1)
    assert await read_all(again) == [Entry(at, record_of(at)) for at in range(1, 11)]
    assert await again.find_session(b"k") == SessionRow(
        b"k", "sid", 10, 12, 11, b"data", clock.now + 100, (Membership("room", 10),)
    )
    (message,) = await other.queue("q").fetch("c", after=0, max_messages=9, max_bytes=99)
    assert message.record == b"message"
    assert (await put(other.queue("q"), "id")).duplicate
    await other.close()


async def test_positions_go_on_after_everything_was_trimmed(path: Path, clock: Clock) -> None:
    store = SqliteStore(path, wall_time=clock, retention=Retention(max_entries=0))
    await store.open()
    await fill(await store.journal("/"), 10)
    await store.close()
    await store.open()
    # Trimmed without anybody having asked for the journal.
    assert await store.trim() == 10
    await store.close()
    await store.open()
    journal = await store.journal("/")
    assert (journal.top, journal.oldest) == (10, 11)
    assert await journal.append(b"", ignore) == 11
    await store.close()


async def test_reads_come_from_memory_after_a_restart_too(path: Path) -> None:
    store = SqliteStore(path, tail_bytes=1000)
    await store.open()
    for _ in range(30):
        await (await store.journal("/")).append(b"x" * 100, ignore)
    await store.close()
    await store.open()
    journal = await store.journal("/")
    read = read_all(journal, 20)
    with pytest.raises(StopIteration) as finished:
        read.send(None)
    assert len(finished.value.value) == 10, "served without waiting for a thread"
    assert len(await read_all(journal)) == 30
    await store.close()


async def test_a_reader_that_trimming_overtook_is_told(path: Path) -> None:
    store = SqliteStore(path, tail_bytes=0, retention=Retention(max_entries=2))
    await store.open()
    journal = await store.journal("/")
    await fill(journal, 10)
    trimming = asyncio.create_task(store.trim())
    while not trimming.done():
        try:
            entries = await read_all(journal)
        except PositionGone:
            break
        assert entries[0].position == 1
    assert await trimming == 8
    with pytest.raises(PositionGone):
        await read_all(journal, 7)
    await store.close()


async def test_what_is_kept_in_memory_follows_trimming(path: Path) -> None:
    store = SqliteStore(path, tail_bytes=2000, retention=Retention(max_bytes=20 << 20))
    await store.open()
    journal = await store.journal("/")
    for _ in range(4):
        # More than one step of trimming takes.
        await asyncio.gather(*(journal.append(b"x" * 50_000, ignore) for _ in range(200)))
    assert await store.trim() == 800 - (20 << 20) // 50_000
    assert len(await read_all(journal, journal.oldest - 1)) == (20 << 20) // 50_000
    await store.close()


async def test_a_transaction_that_can_not_be_rolled_back_is_told(
    store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    journal = await store.journal("/")
    writer = store._open().writer
    connection = writer._transaction.connection

    def close(_: Transaction) -> None:
        connection.close()
        raise ValueError("and then")

    with pytest.raises(ValueError, match="and then"):
        await writer.submit(close)
    with pytest.raises(StorageError, match="closed database"):
        await journal.append(b"", ignore)
    assert "could not be rolled back" in caplog.text


async def test_a_damaged_store_is_let_go(store: SqliteStore, path: Path) -> None:
    await store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE session")
    connection.close()
    for _ in range(2):
        with pytest.raises(StorageError, match="no such table"):
            await SqliteStore(path).open()


async def test_what_is_proven_is_written_after_a_while(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("waypost.storage.sqlite.journals.journal._PROVE_AFTER_S", 0.01)
    journal = await store.journal("/")
    await journal.open_session(b"k", "sid", b"", ignore)
    journal.prove(b"k", 3, 3)
    journal.prove(b"k", 4, 3)
    connection = sqlite3.connect(path)
    async with asyncio.timeout(DEADLINE_S):
        while connection.execute("SELECT proven FROM session").fetchone() != (4,):
            await asyncio.sleep(0.01)
    connection.close()


async def test_an_on_commit_that_raises_harms_nobody(store: SqliteStore, caplog: pytest.LogCaptureFixture) -> None:
    journal = await store.journal("/")

    def broken(position: int) -> None:
        raise RuntimeError(f"broken at {position}")

    results = await asyncio.gather(
        journal.append(b"", broken), journal.append(b"", ignore), journal.open_session(b"", "", b"", broken)
    )
    assert [*results] == [1, 2, 2]
    raised = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert [str(error) for error in raised] == ["broken at 1", "broken at 2"]


async def test_a_record_that_can_not_fit_is_refused(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waypost.storage.sqlite.writer.LARGEST_RECORD_BYTES", 10)
    journal = await store.journal("/")
    with pytest.raises(StorageError, match="a record of 11 bytes, at most 10 fit"):
        await journal.append(b"x" * 11, ignore)
    assert await journal.append(b"x" * 10, ignore) == 1


async def test_a_command_line_tool_may_read_and_write_beside_it(store: SqliteStore, path: Path) -> None:
    await put(store.queue("q"), "id")
    tool = sqlite3.connect(path, isolation_level=None)
    tool.execute("BEGIN IMMEDIATE")
    tool.execute("DELETE FROM message")
    enqueued = asyncio.create_task(put(store.queue("q"), "other"))
    await asyncio.sleep(0.05)
    assert not enqueued.done(), "waits for its turn"
    tool.execute("COMMIT")
    tool.close()
    assert (await enqueued).position == 2


async def test_a_full_disk_fails_what_waits_and_nothing_later(store: SqliteStore) -> None:
    journal, queue = await store.journal("/"), store.queue("q")
    opened = store._open()
    limit = "PRAGMA max_page_count = {}"
    await opened.writer.submit(lambda tx: tx.connection.execute(limit.format(1)).fetchall())
    given: list[int] = []
    results: list[object] = []
    while not any(isinstance(result, StoreFull) for result in results):
        results = await asyncio.gather(
            *(journal.append(b"x" * 9000, given.append) for _ in range(10)), return_exceptions=True
        )
    asked = asyncio.create_task(put(queue, "id", b"x" * 100_000))
    await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(StoreFull, match="no space left"):
        await put(queue, "id", b"x" * 100_000)
    assert given == list(range(1, journal.top + 1))
    assert await journal.find_session(b"k") is None, "what needs no space goes on"
    await opened.writer.submit(lambda tx: tx.connection.execute(limit.format(1 << 30)).fetchall())
    assert await journal.append(b"later", ignore) == len(given) + 1
    assert (await put(queue, "id")).position == 1
    assert len(await read_all(journal)) == journal.top


async def test_sessions_that_expired_before_an_error_are_told(
    store: SqliteStore, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: Transaction, journal: int) -> int:
        raise StoreFull(f"{journal}")

    monkeypatch.setattr("waypost.storage.sqlite.journals.expiry.forget_tombstones", refuse)
    journal = await store.journal("/")
    with pytest.raises(StoreFull):
        await store.expire_sessions()
    await journal.open_session(b"k", "sid", b"", ignore)
    await journal.detach_session(b"k", clock.now - 1)
    assert await store.expire_sessions() == [ExpiredSession("/", "sid", b"")]
    assert "not all that should have" in caplog.text


async def test_proven_positions_that_find_no_space_are_told(
    store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    journal = await store.journal("/")
    await store._open().writer.submit(lambda tx: tx.connection.execute("DROP TABLE session"))
    caplog.set_level(logging.WARNING)
    journal.prove(b"k", 1, 1)
    with pytest.raises(StorageError, match="no such table"):
        await journal.find_session(b"k")
    assert "what sessions have proven was not written" in caplog.text


async def test_a_file_size_limit_is_a_full_disk(path: Path) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        full_child.__file__,
        str(path),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(child.communicate(), DEADLINE_S)
    assert child.returncode == 0, errors.decode()
    store = SqliteStore(path)
    await store.open()
    assert len(await read_all(await store.journal("/"))) == int(output)
    await store.close()


async def test_an_opening_that_is_cancelled_lets_go(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, cancelled = threading.Event(), threading.Event()

    def slow(path: Path, *how: float, **options: bool) -> sqlite3.Connection:
        entered.set()
        assert cancelled.wait(DEADLINE_S)
        return sqlite_file.open_database(path, *how, **options)

    store = SqliteStore(path)
    monkeypatch.setattr("waypost.storage.sqlite.store.open_database", slow)
    task = asyncio.create_task(store.open())
    while not entered.is_set():
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(StoreBusy):
        await SqliteStore(path).open()
    cancelled.set()
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                await store.open()
                break
            except StoreBusy:
                await asyncio.sleep(0.01)
    await store.close()


def test_a_loop_that_ends_first_is_told_in_the_log(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = SqliteStore(path)

    async def forget_to_close() -> None:
        await store.open()
        journal = await store.journal("/")
        await store._open().writer.submit(lambda tx: tx.connection.execute("SELECT 1").fetchall())
        task = asyncio.ensure_future(journal.append(b"", ignore))
        await asyncio.sleep(0)
        task.cancel()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(forget_to_close())
    opened = store._open()
    loop.close()
    opened.writer._incoming.close()
    opened.writer._thread.join(DEADLINE_S)
    assert not opened.writer._thread.is_alive()
    assert "the event loop was closed before its store" in caplog.text
    opened.reader._connection.close()
    opened.reader._thread.shutdown()
    opened.owner.close()


async def test_an_older_copy_of_the_file_lets_everybody_start_anew(
    store: SqliteStore, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for copied_while_open in (False, True):
        journal = await store.journal("/")
        await fill(journal, 3)
        await journal.open_session(b"k", "sid", b"", ignore)
        before = journal.generation
        if not copied_while_open:
            await store.close()
        copy = sqlite3.connect(path)
        copy.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        copy.close()
        older = path.read_bytes()
        if not copied_while_open:
            await store.open()
            journal = await store.journal("/")
        await fill(journal, 2)
        await store.close()
        path.write_bytes(older)
        caplog.clear()
        await store.open()
        assert "is an older copy" in caplog.text
        again = await store.journal("/")
        assert again.top == journal.top - 2
        assert before not in again.ends
        assert await again.find_session(b"k") is None


async def test_a_file_that_was_moved_is_no_older_copy(
    store: SqliteStore, path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = await store.journal("/")
    await journal.open_session(b"k", "sid", b"", ignore)
    await store.close()
    for moved in (tmp_path / "one.db", tmp_path / "two.db"):
        path.rename(moved)
        other = SqliteStore(moved)
        await other.open()
        assert await (await other.journal("/")).find_session(b"k") is not None
        await other.close()
        path = moved
    assert "older copy" not in caplog.text
