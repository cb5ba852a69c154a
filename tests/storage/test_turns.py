"""A store's file that other programs write to: who writes next, and how long a lock is waited for."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path

import pytest
import pytest_asyncio

from tests.storage.backends import ignore, put
from waypost.errors import StorageError
from waypost.storage.queue_records import Attempt, NewMessageRow, QueueLimits
from waypost.storage.sqlite import turns as turns_of_files
from waypost.storage.sqlite.outbox import publish
from waypost.storage.sqlite.store import SqliteStore
from waypost.storage.sqlite.turns import OwnersTurns, asking

DEADLINE_S = 60.0
TABLES = "CREATE TABLE written (who TEXT) STRICT"


@pytest.fixture(autouse=True)
def looks_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns_of_files, "_LOOK_EVERY_S", 0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(TABLES)
    return path


@pytest.fixture
def owner(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None, timeout=DEADLINE_S)) as connection:
        yield connection


def write(connection: sqlite3.Connection, who: str) -> None:
    connection.execute("INSERT INTO written VALUES (?)", (who,))
    connection.execute("COMMIT")


def written(connection: sqlite3.Connection) -> list[str]:
    return [who for (who,) in connection.execute("SELECT who FROM written ORDER BY rowid")]


def start(*work: threading.Thread) -> None:
    for thread in work:
        thread.start()


def test_a_program_that_asks_writes_before_the_owner_writes_again(path: Path, owner: sqlite3.Connection) -> None:
    turns = OwnersTurns(str(path))
    asked = threading.Event()

    def visit() -> None:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=DEADLINE_S)) as connection:
            with asking(str(path)):
                asked.set()
                connection.execute("BEGIN IMMEDIATE")
            write(connection, "visitor")

    for _ in range(5):
        turns.begin(owner)
        visitor = threading.Thread(target=visit)
        start(visitor)
        assert asked.wait(DEADLINE_S)
        asked.clear()
        write(owner, "owner")
        turns.ended()
        turns.begin(owner)
        write(owner, "owner again")
        turns.ended()
        visitor.join(DEADLINE_S)
    turns.close()
    assert written(owner) == ["owner", "visitor", "owner again"] * 5


@pytest.mark.long
def test_the_owner_has_its_turn_between_many_that_ask(path: Path, owner: sqlite3.Connection) -> None:
    turns = OwnersTurns(str(path))
    is_over = threading.Event()

    def visit() -> None:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=DEADLINE_S)) as connection:
            while not is_over.is_set():
                with asking(str(path)):
                    connection.execute("BEGIN IMMEDIATE")
                write(connection, "visitor")

    visitors = [threading.Thread(target=visit) for _ in range(4)]
    start(*visitors)
    try:
        for _ in range(10):
            turns.begin(owner)
            write(owner, "owner")
            turns.ended()
    finally:
        is_over.set()
        for visitor in visitors:
            visitor.join(DEADLINE_S)
    turns.close()
    assert written(owner).count("owner") == 10
    assert written(owner).count("visitor") > 0


def test_a_program_that_never_takes_its_turn_does_not_stop_the_owner(path: Path, owner: sqlite3.Connection) -> None:
    turns = OwnersTurns(str(path))
    with asking(str(path)):
        for _ in range(100):
            turns.begin(owner)
            write(owner, "owner")
            turns.ended()
    turns.close()
    assert written(owner) == ["owner"] * 100


def test_a_file_without_an_owner_is_written_to_as_ever(path: Path, owner: sqlite3.Connection) -> None:
    with asking(str(path)):
        owner.execute("BEGIN IMMEDIATE")
    write(owner, "visitor")
    assert written(owner) == ["visitor"]


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "store.db", patience_s=1.0)
    await store.open()
    yield store
    await store.close()


async def many_writes(store: SqliteStore) -> list[asyncio.Task[object]]:
    """Ask for writes of all kinds at once."""
    journal, queue = await store.journal("/"), store.queue("q")
    epoch = (await queue.add_consumer("c")).epoch
    await put(queue, "0")
    await journal.open_session(b"key", "sid", b"", ignore)

    async def ask(number: int) -> object:
        match number % 5:
            case 0:
                return await journal.append(b"event", ignore)
            case 1:
                await journal.join(b"key", [f"room {number}"], ignore)
                return None
            case 2:
                return await put(queue, str(number))
            case 3:
                return await queue.settle("c", epoch, [number])
            case _:
                return await queue.retry("c", epoch, [Attempt(1, 1, 0, "rejected", "no", 1.0)])

    return [asyncio.ensure_future(ask(number)) for number in range(60)]


async def test_a_lock_is_waited_for_equally_long_by_all(store: SqliteStore, tmp_path: Path) -> None:
    async with asyncio.timeout(DEADLINE_S):
        tasks = await many_writes(store)
        with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            results = await asyncio.gather(*tasks, return_exceptions=True)
            failed = [one for one in results if isinstance(one, BaseException)]
            assert all(isinstance(one, StorageError) and "takes too long" in str(one) for one in failed)
            # What was written before the lock was taken was written; the others have waited together.
            later = await asyncio.gather(put(store.queue("q"), "later"), return_exceptions=True)
            assert isinstance(later[0], StorageError)
            other.execute("COMMIT")
        await put(store.queue("q"), "after")


async def test_a_lock_that_is_given_up_in_time_fails_nobody(store: SqliteStore, tmp_path: Path) -> None:
    async with asyncio.timeout(DEADLINE_S):
        with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as other:
            journal = await store.journal("/")
            other.execute("BEGIN IMMEDIATE")
            asked = [asyncio.ensure_future(journal.append(b"%d" % number, ignore)) for number in range(50)]
            await asyncio.sleep(0.6)  # longer than SQLite waits at a time
            assert not any(one.done() for one in asked)
            other.execute("COMMIT")
        assert await asyncio.gather(*asked) == [*range(1, 51)]


async def test_a_store_that_is_closed_under_a_lock_answers_all(tmp_path: Path) -> None:
    async with asyncio.timeout(DEADLINE_S):
        store = SqliteStore(tmp_path / "store.db", patience_s=0.5)
        await store.open()
        journal = await store.journal("/")
        with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            asked = asyncio.ensure_future(journal.append(b"event", ignore))
            await asyncio.sleep(0)
            await store.close()
            assert isinstance(await asyncio.gather(asked, return_exceptions=True), list)
            assert isinstance(asked.exception(), StorageError)


async def test_the_log_shrinks_after_a_reader_that_stayed_open(tmp_path: Path) -> None:
    path, megabyte = tmp_path / "store.db", b"x" * (1 << 20)
    store = SqliteStore(path)
    await store.open()
    journal = await store.journal("/")
    log = Path(f"{path}-wal")
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM chunk").fetchall()
        for _ in range(90):
            await journal.append(megabyte, ignore)
        assert log.stat().st_size > 90 << 20
    for _ in range(3):
        await journal.append(megabyte, ignore)
    assert log.stat().st_size < 70 << 20
    await store.close()


async def test_publishing_asks_for_a_turn(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def ask(path: str) -> AbstractContextManager[None]:
        asked.append(path)
        return asking(path)

    monkeypatch.setattr("waypost.storage.sqlite.outbox.asking", ask)
    with closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        publish(connection, "q", NewMessageRow("1", b""), deduplicate_s=0, limits=QueueLimits())
        publish(connection, "q", NewMessageRow("2", b""), deduplicate_s=0, limits=QueueLimits())
        connection.commit()
    # The second one is in a transaction that may write already.
    assert asked == [str(tmp_path / "store.db")]


async def test_the_servers_own_opening_is_no_other_programs_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[OwnersTurns] = []
    monkeypatch.setattr(OwnersTurns, "note_others", told.append)
    store = SqliteStore(str(tmp_path / "store.db"))
    await store.open()
    journal = await store.journal("/")
    for _ in range(3):
        await journal.append(b"event", ignore)
    await put(store.queue("orders"), "a")
    await store.close()
    assert not told, "it would leave others half of the time for two seconds after its start"
