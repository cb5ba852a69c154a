"""What is reported before it is on disk: crashes, full disks, slow ones, and files used in both ways."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.storage.backends import Clock, fill, flush, ignore, put, read_all, record_of
from waypost.errors import StorageError, StoreClosed, StoreFull
from waypost.retrying import RetryPolicy
from waypost.storage.journal_records import ExpiredSession, Membership
from waypost.storage.sqlite.jobs import Transaction
from waypost.storage.sqlite.journals.deferred import BLOCK
from waypost.storage.sqlite.journals.journal import SqliteJournal
from waypost.storage.sqlite.store import SqliteStore

ROUNDS = 8
DEADLINE_S = 60.0
NO_SPACE = "PRAGMA max_page_count = 1"
SPACE = f"PRAGMA max_page_count = {1 << 30}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
async def store(path: Path, clock: Clock) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path, durability="async", wall_time=clock)
    await store.open()
    yield store
    await store.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.005)


def set_space(store: SqliteStore, pragma: str) -> None:
    """Limit the file's size, or no longer, without asking the writer, who may be busy trying."""
    store._open().writer._transaction.connection.execute(pragma).fetchall()


def pause(store: SqliteStore) -> threading.Event:
    """Keep the writer busy, as a slow disk would, until the event is set."""
    go_on = threading.Event()
    store._open().writer.defer(lambda tx: go_on.wait(DEADLINE_S), 0)
    return go_on


class TestBothWays:
    async def test_a_file_is_used_in_one_way_and_then_the_other(self, path: Path, clock: Clock) -> None:
        generations = set()
        for number in range(6):
            store = SqliteStore(path, durability="async" if number % 3 else "commit", wall_time=clock)
            await store.open()
            journal = await store.journal("/")
            generations.add(journal.generation)
            assert (journal.top, journal.oldest) == (number * 10, 1)
            await fill(journal, 10)
            if number:
                session = await journal.find_session(b"k")
                assert session is not None
                assert session.memberships == tuple(Membership(f"{one}", one * 10 + 10) for one in range(number))
                assert await journal.attach_session(b"k", lambda _: None) is not None
            else:
                await journal.open_session(b"k", "sid", b"", ignore)
            with pytest.raises(StorageError, match="stored already"):
                await journal.open_session(b"k", "other", b"", ignore)
            await journal.join(b"k", [f"{number}"], ignore)
            await store.close()
        assert len(generations) == 6

    async def test_a_clean_close_writes_everything(self, store: SqliteStore, path: Path) -> None:
        journal = await store.journal("/")
        await fill(journal, 3000)
        journal.prove(b"k", 7, 7)
        await journal.open_session(b"k", "sid", b"", ignore)
        journal.prove(b"k", 3001, 3000)
        await store.close()
        other = SqliteStore(path)
        await other.open()
        entries = await read_all(await other.journal("/"))
        assert [entry.record for entry in entries] == [record_of(position) for position in range(1, 3001)]
        session = await (await other.journal("/")).find_session(b"k")
        assert session is not None
        assert session.proven == 3001
        await other.close()


class TestReports:
    async def test_a_write_does_not_wait_for_the_disk(self, store: SqliteStore) -> None:
        journal = await store.journal("/")
        go_on = pause(store)
        told: list[int] = []
        for write in (
            journal.append(b"one", told.append),
            journal.open_session(b"k", "sid", b"", told.append),
            journal.join(b"k", ["room"], told.append),
            journal.append(b"two", told.append),
            journal.leave(b"k", ["room"], told.append),
            journal.join_matching(None, (), ["all"], told.append),
            journal.leave_matching(["all"], (), ["never"], told.append),
            journal.detach_session(b"k", 1e12),
            journal.save_session(b"k", b"data"),
        ):
            with pytest.raises(StopIteration):
                write.send(None)
        assert told == [1, 1, 1, 2, 2, 2, 2]
        assert [entry.record for entry in await read_all(journal)] == [b"one", b"two"], "read from memory"
        asked = asyncio.create_task(journal.find_session(b"k"))
        message = asyncio.create_task(put(store.queue("q"), "id"))
        await asyncio.sleep(0.05)
        assert not asked.done()
        assert not message.done(), "a message is told when it is on disk"
        go_on.set()
        await message
        session = await asked
        assert session is not None
        assert (session.data, session.start, session.expires_at) == (b"data", 1, 1e12)
        assert session.memberships == (Membership("room", 1, 2), Membership("all", 2))

    async def test_writes_are_reported_behind_an_attach_that_was_asked_for_before(self, store: SqliteStore) -> None:
        journal = await store.journal("/")
        await journal.open_session(b"k", "sid", b"", ignore)
        go_on = pause(store)
        told: list[object] = []
        attached = asyncio.create_task(journal.attach_session(b"k", lambda found: told.append(found.sid)))
        await asyncio.sleep(0)
        writes = [
            asyncio.create_task(write)
            for write in (
                journal.join(b"k", ["room"], told.append),
                journal.append(b"one", told.append),
                journal.attach_session(b"k", lambda found: told.append(found.memberships)),
                journal.append(b"two", told.append),
            )
        ]
        await asyncio.sleep(0.05)
        assert told == []
        go_on.set()
        await asyncio.gather(attached, *writes)
        assert told == ["sid", 0, 1, (Membership("room", 0),), 2]

    async def test_writes_reach_the_disk_by_themselves(self, store: SqliteStore, path: Path) -> None:
        await fill(await store.journal("/"), 3)
        connection = sqlite3.connect(path)
        await until(lambda: connection.execute("SELECT sum(length(sizes)) FROM chunk").fetchone() == (12,))
        connection.close()

    async def test_an_error_of_an_on_commit_is_its_own(
        self, store: SqliteStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(position: int) -> None:
            raise RuntimeError(f"broken at {position}")

        journal = await store.journal("/")
        assert await journal.append(b"", broken) == 1
        assert "an on_commit raised" in caplog.text

    async def test_what_can_not_be_written_is_refused_before_it_is_reported(
        self, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("waypost.storage.sqlite.writer.LARGEST_RECORD_BYTES", 10)
        journal = await store.journal("/")
        told: list[int] = []
        with pytest.raises(StorageError, match="11 bytes"):
            await journal.append(b"x" * 11, told.append)
        with pytest.raises(StorageError, match="11 bytes"):
            await journal.open_session(b"k", "sid", b"x" * 11, told.append)
        with pytest.raises(StorageError, match="11 bytes"):
            await journal.save_session(b"k", b"x" * 11)
        with pytest.raises(UnicodeError):
            await journal.open_session(b"k", "\udc80", b"", told.append)
        with pytest.raises(UnicodeError):
            await journal.join(b"k", ["\udc80"], told.append)
        assert told == []
        assert await journal.find_session(b"k") is None

    async def test_a_key_is_free_again_when_its_session_is_gone(self, store: SqliteStore, clock: Clock) -> None:
        journal = await store.journal("/")
        for gone in ("ended", "expired"):
            await journal.open_session(b"k", gone, b"", ignore)
            if gone == "ended":
                await journal.end_session(b"k")
            else:
                await journal.detach_session(b"k", clock.now - 1)
                assert await store.expire_sessions() == [ExpiredSession("/", "expired", b"")]
        await journal.open_session(b"k", "last", b"", ignore)
        session = await journal.find_session(b"k")
        assert session is not None
        assert session.sid == "last"

    async def test_a_refusal_that_comes_too_late_is_logged(
        self, store: SqliteStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        def refuse(_: Transaction) -> None:
            raise StorageError("store", "too late")

        store._open().writer.defer(refuse, 0)
        await flush(await store.journal("/"))
        assert "a write that was reported was refused: store store: too late" in caplog.text


class TestSlowDisk:
    async def test_positions_are_given_only_from_what_is_reserved(self, store: SqliteStore) -> None:
        journal = await store.journal("/")
        go_on = pause(store)
        told: list[int] = []
        for _ in range(BLOCK):
            await journal.append(b"", told.append)
        writes = [
            asyncio.create_task(journal.append(b"next", told.append)),
            asyncio.create_task(journal.append(b"given up", told.append)),
            asyncio.create_task(journal.open_session(b"k", "sid", b"", told.append)),
            asyncio.create_task(journal.append(b"last", told.append)),
        ]
        asked = asyncio.create_task(journal.find_session(b"k"))
        await asyncio.sleep(0.05)
        assert journal.top == BLOCK
        assert not any(write.done() for write in writes), "those behind it wait too"
        writes[1].cancel()
        go_on.set()
        await asyncio.wait({*writes, asked}, timeout=DEADLINE_S)
        assert told[BLOCK:] == [BLOCK + 1, BLOCK + 1, BLOCK + 2]
        session = asked.result()
        assert session is not None
        assert session.start == BLOCK + 1
        assert len(await read_all(journal)) == BLOCK + 2

    async def test_many_that_wait_take_several_blocks(self, store: SqliteStore) -> None:
        journal = await store.journal("/")
        go_on = pause(store)
        told: list[int] = []
        writes = [asyncio.create_task(journal.append(b"", told.append)) for _ in range(3 * BLOCK + 5)]
        await asyncio.sleep(0)
        go_on.set()
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.gather(*writes)
        assert told == [*range(1, 3 * BLOCK + 6)]

    async def test_no_more_is_reported_than_fits_into_memory(
        self, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("waypost.storage.sqlite.journals.unflushed._MAX_BYTES", 100_000)
        journal = await store.journal("/")
        go_on = pause(store)
        told: list[int] = []
        writes = [asyncio.create_task(journal.append(b"x" * 9_000, told.append)) for _ in range(30)]
        await asyncio.sleep(0.05)
        assert len(told) == 11
        go_on.set()
        assert await asyncio.gather(*writes) == told == [*range(1, 31)]

    async def test_closing_waits_for_those_that_wait(self, store: SqliteStore, path: Path) -> None:
        journal = await store.journal("/")
        go_on = pause(store)
        writes = [asyncio.create_task(journal.append(b"", ignore)) for _ in range(BLOCK + 3)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(store.close())
        await until(lambda: journal._writes._closed)  # type: ignore[attr-defined]
        with pytest.raises(StoreClosed):
            await journal.append(b"", ignore)
        go_on.set()
        await closing
        assert await asyncio.gather(*writes) == [*range(1, BLOCK + 4)]
        other = SqliteStore(path)
        await other.open()
        assert len(await read_all(await other.journal("/"))) == BLOCK + 3
        await other.close()


class TestFullDisk:
    async def test_what_was_reported_is_kept_and_written_later(
        self, store: SqliteStore, path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("waypost.storage.sqlite.writer._RETRIES", RetryPolicy(0.02, 0.02))
        monkeypatch.setattr("waypost.storage.sqlite.journals.unflushed._MAX_BYTES", 3_000_000)
        journal = await store.journal("/")
        await flush(journal)
        set_space(store, NO_SPACE)
        given: list[int] = []

        async def fill_up() -> None:
            for _ in range(1000):
                await journal.append(b"x" * 9_000, given.append)
                if len(given) > 50:
                    await until(lambda: store._open().writer.unflushed.failure is not None)

        with pytest.raises(StoreFull):
            await fill_up()
        assert len(given) > 300, "until too much is unwritten"
        assert journal.top == len(given)
        with pytest.raises(StoreFull):
            await put(store.queue("q"), "id")
        with pytest.raises(StoreFull):
            await journal.open_session(b"k", "sid", b"", ignore)
        assert len(await read_all(journal)) == len(given), "what was reported can be read"
        set_space(store, SPACE)
        await until(lambda: store._open().writer.unflushed.failure is None)
        assert await journal.append(b"later", ignore) == len(given) + 1
        await put(store.queue("q"), "id")
        await store.close()
        told = [record.levelname for record in caplog.records if "what was reported" in record.getMessage()]
        assert told == ["ERROR", "WARNING"], "once each"
        other = SqliteStore(path)
        await other.open()
        again = await other.journal("/")
        assert again.ends == {journal.generation: len(given) + 1}
        assert len(await read_all(again)) == len(given) + 1
        await other.close()

    async def test_without_a_reserved_position_it_is_full(
        self, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("waypost.storage.sqlite.writer._RETRIES", RetryPolicy(0.02, 0.02))
        journal = await store.journal("/")
        await journal.append(b"x" * 9_000, ignore)
        await flush(journal)
        set_space(store, NO_SPACE)

        async def use_up() -> None:
            for _ in range(BLOCK + 1):
                await journal.append(b"x" * 1_000, ignore)

        with pytest.raises(StoreFull):
            await use_up()
        assert journal.top == BLOCK
        await until(lambda: store._open().writer.unflushed.failure is not None)
        set_space(store, SPACE)
        await until(lambda: store._open().writer.unflushed.failure is None)
        assert await journal.append(b"", ignore) == BLOCK + 1

    async def test_a_close_that_can_not_write_says_so_and_the_next_opening_too(
        self, store: SqliteStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        journal = await store.journal("/")
        await flush(journal)
        set_space(store, NO_SPACE)
        await journal.append(b"x" * 100_000, ignore)
        with pytest.raises(StoreFull):
            await store.close()
        assert "closed with 1 writes that could not be written" in caplog.text
        await store.close()
        await store.open()
        again = await store.journal("/")
        assert again.generation != journal.generation
        assert again.top == BLOCK

    async def test_a_job_that_fails_harms_nothing_that_was_reported(self, store: SqliteStore) -> None:
        journal = await store.journal("/")
        go_on = pause(store)

        def fail(_: Transaction) -> None:
            raise ValueError("no such thing")

        async def broken() -> None:
            await store._open().writer.submit(fail)

        results = await asyncio.gather(
            journal.append(b"one", ignore),
            broken(),
            journal.append(b"two", ignore),
            asyncio.to_thread(go_on.set),
            return_exceptions=True,
        )
        assert results[0] == 1
        assert isinstance(results[1], ValueError)
        assert results[2] == 2
        await flush(journal)
        assert len(await read_all(journal)) == 2

    async def test_deferred_jobs_that_fail_keep_their_order(
        self, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("waypost.storage.sqlite.writer._RETRIES", RetryPolicy(0.02, 0.02))
        journal = await store.journal("/")
        await flush(journal)
        failures = 3
        done: list[str] = []

        def fail_at_first(_: Transaction) -> None:
            nonlocal failures
            failures -= 1
            if failures >= 0:
                raise RuntimeError("not yet")

        writer = store._open().writer
        writer.defer(fail_at_first, 0)
        writer.defer(lambda tx: done.append("deferred"), 0)
        with pytest.raises(RuntimeError, match="not yet"):
            await writer.submit(lambda tx: done.append("overtaken"))
        await until(lambda: writer.unflushed.failure is None and "deferred" in done)
        assert await journal.append(b"", ignore) == 1
        await flush(journal)
        assert "overtaken" not in done[: done.index("deferred")]


async def test_a_tail_too_small_reads_from_the_file_once_it_is_there(path: Path) -> None:
    store = SqliteStore(path, durability="async", tail_bytes=100)
    await store.open()
    journal = await store.journal("/")
    assert isinstance(journal, SqliteJournal)
    for _ in range(3):
        await fill(journal, 200)
        assert len(await read_all(journal)) == journal.top
        await flush(journal)
        assert journal.log.tail.size_bytes <= 100, "held in memory no longer"
        assert len(await read_all(journal)) == journal.top
    await store.close()
