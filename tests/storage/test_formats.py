"""Files of each format that Waypost ever wrote: `files/version_<n>.sql` is one of version n."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from tests.storage.backends import UNLIMITED, Clock, ignore, positions, put, read_all, settle
from waypost.storage.answer_base import Answer
from waypost.storage.queue_records import Accepted, DeadLetterFilter, HistoryItem, QueueLimits
from waypost.storage.sqlite import schema as sqlite_schema
from waypost.storage.sqlite.store import SqliteStore
from waypost.version import __version__

FILES = Path(__file__).parent / "files"
VERSIONS = (3, 4, 5, 6)
OLDER = VERSIONS[:-1]


def make_file(path: Path, version: int) -> None:
    """Make a file as that version left it when it was killed."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((FILES / f"version_{version}.sql").read_text(encoding="utf-8"))
        connection.execute("PRAGMA journal_mode = WAL")


def tables_of(path: Path) -> list[tuple[str, str, str]]:
    """Return what the schema of a file says."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (sqlite_schema.SCHEMA_VERSION,)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        made = "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY name"
        return connection.execute(made).fetchall()


@pytest.mark.parametrize("version", VERSIONS)
async def test_what_an_older_version_kept_is_there(tmp_path: Path, version: int) -> None:
    path = tmp_path / "store.db"
    make_file(path, version)
    store = SqliteStore(path, wall_time=Clock(now=1010.0))
    await store.open()

    journal = await store.journal("/")
    records = [entry.record for entry in await read_all(journal)]
    assert records == [*(b"event %d" % n for n in range(1, 9)), b"event 9 " + b"x" * 3000]
    session = await journal.find_session(b"key 1")
    assert session is not None
    assert (session.sid, session.start, session.proven, session.last, session.data) == ("sid1", 5, 7, 6, b"data 1")
    assert {(one.room, one.since, one.until) for one in session.memberships} == {("room", 5, 8), ("sid1", 5, None)}
    away = await journal.find_session(b"key 2")
    assert away is not None
    assert away.expires_at == 1500.0
    gone = await journal.find_session(b"key 3")
    assert gone is not None
    assert gone.expired
    assert not session.damaged
    assert await journal.append(b"new", ignore) == 10

    queue = store.queue("q")
    assert await positions(queue, "a") == [3, 6, 7, 8]
    assert await positions(queue, "b") == [*range(2, 9)]
    third, _, _, large = await queue.fetch("a", after=0, max_messages=9, max_bytes=UNLIMITED)
    assert (third.id, third.record, third.key, third.failures, third.losses) == ("m3", b"record 3", "k", 1, 1)
    assert (large.id, large.record, large.headers, large.damaged) == ("large", b"y" * 3000, None, False)
    info = await queue.info()
    assert (info.messages, info.delayed, info.bytes, info.dead) == (7, 1, 3055, 1)
    (letter,) = await queue.dead_letters(DeadLetterFilter(), after=0, max_letters=9, max_bytes=UNLIMITED)
    assert (letter.id, letter.record, letter.reason, letter.damaged) == ("m4", b"record 4", "never", False)
    assert letter.history == (HistoryItem(1001.5, "rejected", "never"),)
    configured = await queue.configuration()
    assert configured.limits == QueueLimits(max_messages=50, max_bytes=1 << 20, max_age_s=1e8, overflow="drop_oldest")
    assert configured.settings == b"settings"
    assert await put(queue, "m7") == Accepted("m7", 7, duplicate=True)
    assert (await store.release_due()).queues == {"q"}
    assert (await queue.peek(after=8, max_messages=9, max_bytes=UNLIMITED))[0].id == "published"
    if version > 3:
        assert await store.answers().find(b"client", 1, "asked") == b"answer"
    await store.answers().keep(Answer(b"client", 2, "again", b"answer" * 500), 0)
    assert await store.answers().find(b"client", 2, "again") == b"answer" * 500

    for name in ("a", "b"):
        await settle(queue, name, range(1, 10))
    assert ((await queue.info()).messages, (await queue.info()).bytes) == (0, len(b"delayed"))
    assert (await queue.redrive(DeadLetterFilter(), after=0, max_letters=9, spacing_s=0, first_at=0)).letters == 1
    assert [one.id for one in await queue.fetch("a", after=0, max_messages=9, max_bytes=UNLIMITED)] == ["m4"]
    await store.close()


@pytest.mark.parametrize("version", VERSIONS)
async def test_the_tables_of_an_older_file_are_those_of_a_new_one(tmp_path: Path, version: int) -> None:
    make_file(tmp_path / "old.db", version)
    for name in ("old.db", "new.db"):
        store = SqliteStore(tmp_path / name)
        await store.open()
        await store.close()
    assert tables_of(tmp_path / "old.db") == tables_of(tmp_path / "new.db")


async def test_a_file_says_which_version_wrote_it(tmp_path: Path) -> None:
    make_file(tmp_path / "store.db", 5)
    store = SqliteStore(tmp_path / "store.db")
    await store.open()
    await store.close()
    with closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        assert connection.execute("SELECT version FROM opening").fetchall() == [(__version__,)]


async def test_large_tables_of_version_5_are_not_read_at_the_opening(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    make_file(path, 5)
    rows = 200_000
    with closing(sqlite3.connect(path)) as connection:
        connection.executemany(
            "INSERT INTO message (queue, position, id, enqueued_at, record) VALUES (2, ?, 'm', 1000, ?)",
            ((position, b"z" * 300) for position in range(1, rows + 1)),
        )
        connection.commit()
        steps = _steps_of(connection, lambda: sqlite_schema.migrate(connection))
    # A look at a row takes a step at least.
    assert steps < rows / 10


def _steps_of(connection: sqlite3.Connection, work: Callable[[], None]) -> int:
    """Count the steps of SQLite's machine that a function takes, in hundreds."""
    steps = 0

    def note() -> int:
        nonlocal steps
        steps += 100
        return 0

    connection.isolation_level = None
    connection.set_progress_handler(note, 100)
    work()
    connection.set_progress_handler(None, 100)
    return steps


async def test_an_sqlite_that_protects_its_schema_gets_the_same_columns(tmp_path: Path) -> None:
    described = {}
    for name, protected in (("old.db", True), ("other.db", False)):
        make_file(tmp_path / name, 5)
        with closing(sqlite3.connect(tmp_path / name, isolation_level=None)) as connection:
            if protected:
                connection.set_authorizer(_protection())
            sqlite_schema.migrate(connection)
            connection.set_authorizer(None)
            described[name] = connection.execute(
                'SELECT s.name, c.name, c.type, c."notnull", c.dflt_value FROM sqlite_schema s, '
                "pragma_table_info(s.name) c WHERE s.type = 'table' ORDER BY s.name, c.cid"
            ).fetchall()
    assert described["old.db"] == described["other.db"]


def _protection() -> Callable[..., int]:
    """Refuse the first statement that edits the schema; SQLite itself does it with another when it adds a column."""
    edits = count()

    def authorize(action: int, table: str | None, column: str | None, *_: object) -> int:
        is_edit = (action, table, column) == (sqlite3.SQLITE_UPDATE, "sqlite_master", "sql")
        return sqlite3.SQLITE_DENY if is_edit and next(edits) == 0 else sqlite3.SQLITE_OK

    return authorize


async def test_a_copy_of_the_older_format_is_kept_by_option(tmp_path: Path) -> None:
    for version in OLDER:
        path = tmp_path / f"{version}.db"
        make_file(path, version)
        store = SqliteStore(path, copy_before_upgrade=True)
        await store.open()
        await put(store.queue("q"), "new")
        await store.close()
        copy = Path(f"{path}-v{version}")
        with closing(sqlite3.connect(copy)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (version,)
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("SELECT count(*) FROM message").fetchone() == (7,)
        # The next opening has nothing to change.
        copy.unlink()
        await store.open()
        await store.close()
        assert not copy.exists()


async def test_no_copy_is_kept_without_the_option_or_of_a_new_file(tmp_path: Path) -> None:
    make_file(tmp_path / "old.db", 5)
    for name, copies in (("old.db", False), ("new.db", True)):
        store = SqliteStore(tmp_path / name, copy_before_upgrade=copies)
        await store.open()
        await store.close()
    assert not [*tmp_path.glob("*-v*")]
