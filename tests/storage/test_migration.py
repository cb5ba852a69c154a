"""Files of version 2, whose queues are rebuilt; those of later versions are in `test_formats.py`."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.storage.backends import UNLIMITED, Clock, positions, put, settle
from waypost.errors import StoreDamaged
from waypost.storage.queue_records import Accepted
from waypost.storage.sqlite import schema as sqlite_schema
from waypost.storage.sqlite.store import SqliteStore

SCHEMA_2 = Path(__file__).parent / "files" / "schema_2.sql"

# Queue 1 had ten messages. "ahead" has settled all up to 2, and 4, 5, 7; its 3 was lost twice. "behind" has settled
# none, but its 9, far ahead, was lost once. "done" has settled all. So 1 and 2 wait for "behind" only.
ROWS = """
INSERT INTO queue VALUES (1, 'q', 10, 10, 100), (2, 'empty', 7, 0, 0), (3, 'unread', 2, 2, 8);
INSERT INTO consumer (id, queue, name, cursor, ahead) VALUES
    (1, 1, 'ahead', 2, 3), (2, 1, 'behind', 0, 0), (3, 1, 'done', 10, 0), (4, 2, 'idle', 7, 0);
INSERT INTO settled VALUES (1, 4, 5), (1, 7, 7);
INSERT INTO delivery (consumer, position, lost) VALUES (1, 3, 2), (2, 9, 1);
INSERT INTO deduplication VALUES (1, 'm8', 8, 1000.0, 1e12);
INSERT INTO message (queue, position, id, enqueued_at, record) VALUES
    (3, 1, 'u1', 1.0, x'61'), (3, 2, 'u2', 2.0, x'62');
INSERT INTO journal (id, name, generation, oldest, top, bytes) VALUES (1, '/', 'g1', 1, 0, 0);
"""


def make_old(path: Path) -> None:
    """Make a file as version 2 did."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA page_size = 8192")
        schema = SCHEMA_2.read_text(encoding="utf-8")
        connection.executescript(
            f"BEGIN; PRAGMA application_id = {0x57415950}; PRAGMA user_version = 2; {schema}; {ROWS} COMMIT;"
        )
        connection.executemany(
            "INSERT INTO message (queue, position, id, enqueued_at, record) VALUES (1, ?, ?, 1000.0, ?)",
            [(position, f"m{position}", b"x" * 10) for position in range(1, 11)],
        )
        connection.commit()


async def test_queues_of_version_2_go_on(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    make_old(path)
    store = SqliteStore(path, wall_time=Clock(now=1100.0))
    await store.open()
    queue = store.queue("q")
    assert {one.name: one.waiting for one in await queue.consumers()} == {"ahead": 5, "behind": 10, "done": 0}
    assert await positions(queue, "ahead") == [3, 6, 8, 9, 10]
    assert await positions(queue, "behind") == [*range(1, 11)]
    lost = await queue.fetch("ahead", after=0, max_messages=1, max_bytes=UNLIMITED)
    assert (lost[0].id, lost[0].record, lost[0].losses) == ("m3", b"x" * 10, 2)
    ninth = await queue.fetch("behind", after=8, max_messages=1, max_bytes=UNLIMITED)
    assert ninth[0].losses == 1
    info = await queue.info()
    assert (info.top, info.messages, info.bytes, info.consumers) == (10, 10, 100, 3)
    assert info.generation
    assert await put(queue, "m8") == Accepted("m8", 8, duplicate=True)
    assert await put(queue, "new") == Accepted("new", 11, duplicate=False)
    for name in ("ahead", "behind", "done"):
        await settle(queue, name, range(1, 12))
    assert (await queue.info()).messages == 0
    assert [(one.name, one.top, one.messages) for one in await store.queues()] == [
        ("empty", 7, 0),
        ("q", 11, 0),
        ("unread", 2, 2),
    ]
    assert (await store.queue("unread").add_consumer("late")).waiting == 2
    assert len({(await queue.add_consumer(name)).epoch for name in ("ahead", "behind", "done", "new")}) == 4
    await store.close()


async def test_the_tables_are_those_of_a_new_file(tmp_path: Path) -> None:
    make_old(tmp_path / "old.db")
    tables: list[list[tuple[str, ...]]] = []
    for name in ("old.db", "new.db"):
        store = SqliteStore(tmp_path / name)
        await store.open()
        await store.close()
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (sqlite_schema.SCHEMA_VERSION,)
            made = "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY name"
            tables.append(connection.execute(made).fetchall())
    assert tables[0] == tables[1]


async def test_a_migration_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store.db"
    make_old(path)
    before = path.read_bytes()
    monkeypatch.setattr(sqlite_schema, "_COPY", sqlite_schema._COPY + "INSERT INTO nowhere VALUES (1);\n")
    store = SqliteStore(path)
    with pytest.raises(Exception, match="nowhere"):
        await store.open()
    assert path.read_bytes() == before
    monkeypatch.undo()
    await store.open()
    assert len(await store.queues()) == 3
    await store.close()


async def test_an_even_older_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    make_old(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 1")
    with pytest.raises(StoreDamaged, match="version 1, this Waypost reads versions 2 to 6"):
        await SqliteStore(path).open()
