"""Messages that are published in an application's own transaction on the store's file."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.storage.backends import UNLIMITED, Clock, put, settle
from waypost.errors import ConfigurationError, QueueFull, StorageError
from waypost.storage.memory.store import MemoryStore
from waypost.storage.queue_records import NewMessageRow, QueueLimits
from waypost.storage.sqlite.outbox import publish
from waypost.storage.sqlite.store import SqliteStore

DEADLINE_S = 60.0
LIMITS = QueueLimits()

PUBLISHER = """
import sqlite3, sys
from waypost.storage.queue_records import NewMessageRow, QueueLimits
from waypost.storage.sqlite.outbox import publish
connection = sqlite3.connect(sys.argv[1])
connection.execute("INSERT INTO orders VALUES (1)")
publish(connection, "q", NewMessageRow("from afar", b"record"), deduplicate_s=60, limits=QueueLimits())
connection.commit()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
async def store(path: Path, clock: Clock) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path, wall_time=clock)
    await store.open()
    await store.queue("q").add_consumer("c")
    yield store
    await store.close()


@pytest.fixture
def application(store: SqliteStore, path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE orders (number INTEGER)")
        connection.commit()
        yield connection


def put_out(connection: sqlite3.Connection, message_id: str, queue: str = "q", deduplicate_s: float = 60) -> None:
    publish(connection, queue, NewMessageRow(message_id, b"record"), deduplicate_s=deduplicate_s, limits=LIMITS)


async def ids(store: SqliteStore, queue: str = "q") -> list[str]:
    kept = await store.queue(queue).peek(after=0, max_messages=UNLIMITED, max_bytes=UNLIMITED)
    return [message.id for message in kept]


async def test_what_is_published_appears_with_the_commit(store: SqliteStore, application: sqlite3.Connection) -> None:
    seen = asyncio.Event()
    store.watch(seen.set)
    application.execute("INSERT INTO orders VALUES (1)")
    put_out(application, "one")
    put_out(application, "two")
    assert (await store.queues())[0].messages == 0
    assert application.execute("SELECT count(*) FROM outbox").fetchone() == (2,)
    application.commit()
    async with asyncio.timeout(DEADLINE_S):
        await seen.wait()
    assert (await store.release_due()).queues == {"q"}
    assert await ids(store) == ["one", "two"]
    assert application.execute("SELECT count(*) FROM outbox").fetchone() == (0,)
    assert (await store.release_due()).queues == frozenset()


async def test_what_is_rolled_back_never_was(store: SqliteStore, application: sqlite3.Connection) -> None:
    application.execute("INSERT INTO orders VALUES (1)")
    put_out(application, "never")
    application.rollback()
    assert (await store.release_due()).queues == frozenset()
    assert await ids(store) == []


async def test_a_store_tells_of_others_writes_and_not_of_its_own(
    store: SqliteStore, application: sqlite3.Connection, path: Path
) -> None:
    told: list[None] = []
    store.watch(lambda: told.append(None))
    await put(store.queue("q"), "its own")
    await store.release_due()
    await asyncio.sleep(0.2)
    told.clear()
    await put(store.queue("q"), "its own again")
    await asyncio.sleep(0.2)
    assert told == []
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PUBLISHER, str(path))
    assert await asyncio.wait_for(process.wait(), DEADLINE_S) == 0
    async with asyncio.timeout(DEADLINE_S):
        while not told:
            await asyncio.sleep(0.01)
    await store.release_due()
    assert (await ids(store))[-1] == "from afar"


async def test_order_and_many_queues(store: SqliteStore, application: sqlite3.Connection) -> None:
    for number in range(1200):
        put_out(application, str(number), queue="ab"[number % 2], deduplicate_s=0)
    application.commit()
    assert (await store.release_due()).queues == {"a", "b"}
    assert await ids(store, "a") == [str(number) for number in range(0, 1200, 2)]
    assert await ids(store, "b") == [str(number) for number in range(1, 1200, 2)]


async def test_a_repeated_id_is_accepted_once(store: SqliteStore, application: sqlite3.Connection) -> None:
    await put(store.queue("q"), "known")
    for message_id in ("known", "new", "new"):
        put_out(application, message_id)
    application.commit()
    await store.release_due()
    assert await ids(store) == ["known", "new"]


async def test_a_delay_counts_from_when_it_was_published(
    store: SqliteStore, application: sqlite3.Connection, clock: Clock
) -> None:
    message = NewMessageRow("later", b"", key="k", ttl_s=5, delay_s=10)
    publish(application, "q", message, deduplicate_s=60, limits=LIMITS, now=clock.now)
    application.commit()
    clock.now += 4
    assert (await store.release_due()).next_at == clock.now + 6
    clock.now += 6
    await store.release_due()
    (found,) = await store.queue("q").fetch("c", after=0, max_messages=9, max_bytes=9)
    assert (found.id, found.key, found.expires_at) == ("later", "k", clock.now + 5)


async def test_a_full_queue_refuses_before_the_commit_and_not_after(
    store: SqliteStore, application: sqlite3.Connection
) -> None:
    await store.queue("q").configure(QueueLimits(max_messages=1), b"")
    put_out(application, "in time")
    application.commit()
    await put(store.queue("q"), "overtook")
    with pytest.raises(QueueFull) as full:
        put_out(application, "too late")
    assert (full.value.queue, full.value.messages) == ("q", 1)
    application.rollback()
    await store.release_due()
    assert await ids(store) == ["overtook", "in time"], "what was committed is never refused"


async def test_what_was_published_while_no_server_ran_is_there_when_one_does(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    await store.close()
    with closing(sqlite3.connect(path)) as connection:
        put_out(connection, "meanwhile")
        connection.commit()
    await store.open()
    await store.release_due()
    assert await ids(store) == ["meanwhile"]
    await store.queue("q").add_consumer("c")
    await settle(store.queue("q"), "c", [1])
    await store.close()


def test_a_file_that_is_no_store_is_told(tmp_path: Path) -> None:
    with (
        closing(sqlite3.connect(tmp_path / "other.db")) as connection,
        pytest.raises(StorageError, match=r"other\.db: it is no store of Waypost's; connect to the file that"),
    ):
        put_out(connection, "nowhere")
    with closing(sqlite3.connect(":memory:")) as connection, pytest.raises(StorageError, match="in memory: it is no"):
        put_out(connection, "nowhere")
    with pytest.raises(ConfigurationError, match=r"expected a sqlite3.Connection"):
        put_out(str(tmp_path), "nowhere")  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["implicit", "begin", "immediate", "each statement"])
@pytest.mark.parametrize("shape", ["tuples", "rows", "dictionaries", "bytes"])
async def test_transactions_and_rows_of_any_kind(store: SqliteStore, path: Path, how: str, shape: str) -> None:
    await store.queue("q").configure(QueueLimits(max_messages=2), b"settings")
    with closing(sqlite3.connect(path, isolation_level="DEFERRED" if how == "implicit" else None)) as connection:
        if shape == "rows":
            connection.row_factory = sqlite3.Row
        elif shape == "dictionaries":
            connection.row_factory = lambda cursor, row: {
                one[0]: value for one, value in zip(cursor.description, row, strict=True)
            }
        elif shape == "bytes":
            connection.text_factory = bytes
        if how in ("begin", "immediate"):
            connection.execute("BEGIN" if how == "begin" else "BEGIN IMMEDIATE")
        put_out(connection, "one")
        assert connection.in_transaction is (how != "each statement")
        await store.release_due() if how == "each statement" else connection.execute("SAVEPOINT inner")
        put_out(connection, "two")
        connection.commit()
        await store.release_due()
        with pytest.raises(QueueFull):
            put_out(connection, "three")
        assert not connection.in_transaction, "one that it began itself, and left"
    assert await ids(store) == ["one", "two"]


def test_a_deferred_transaction_is_not_refused_for_what_was_written_since_it_was_begun(tmp_path: Path) -> None:
    async def play() -> None:
        store = SqliteStore(tmp_path / "store.db")
        await store.open()
        with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None, timeout=0.1)) as connection:
            connection.execute("BEGIN")
            await put(store.queue("q"), "written since")
            put_out(connection, "published")
            connection.execute("COMMIT")
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM queue").fetchall()
            await put(store.queue("q"), "written since it read")
            with pytest.raises(StorageError, match="begin with BEGIN IMMEDIATE"):
                put_out(connection, "refused")
            connection.execute("ROLLBACK")
        await store.close()

    asyncio.run(play())


async def test_a_lock_that_is_held_for_too_long_is_told(store: SqliteStore, path: Path) -> None:
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as other,
        closing(sqlite3.connect(path, timeout=0.05)) as connection,
    ):
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match="another connection's transaction takes too long"):
            put_out(connection, "waits in vain")
        assert not connection.in_transaction
        other.execute("ROLLBACK")
        put_out(connection, "now")
        connection.commit()


async def test_a_queue_publishes_on_connections_to_its_own_file_only(
    store: SqliteStore, application: sqlite3.Connection, path: Path, tmp_path: Path, clock: Clock
) -> None:
    message = NewMessageRow("one", b"record", delay_s=5)
    (tmp_path / "link.db").symlink_to(path)
    with closing(sqlite3.connect(tmp_path / "link.db")) as linked:
        store.queue("q").publish(linked, message, deduplicate_s=60)
        linked.commit()
    assert (await store.release_due()).next_at == clock.now + 5
    for name in ("other.db", ":memory:"):
        where = name if name == ":memory:" else tmp_path / name
        with (
            closing(sqlite3.connect(where)) as other,
            pytest.raises(StorageError, match="connect to this store's own"),
        ):
            store.queue("q").publish(other, message, deduplicate_s=60)
    memory = MemoryStore()
    await memory.open()
    with pytest.raises(StorageError, match="memory:: nothing can be published in a transaction"):
        memory.queue("q").publish(application, message, deduplicate_s=60)
    await memory.close()


def test_publishing_needs_no_store_in_the_process(path: Path) -> None:
    async def make() -> None:
        store = SqliteStore(path)
        await store.open()
        await store.close()

    asyncio.run(make())
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE orders (number INTEGER)")
    subprocess.run([sys.executable, "-c", PUBLISHER, str(path)], check=True)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT id FROM outbox").fetchall() == [("from afar",)]
