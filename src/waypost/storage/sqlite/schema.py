"""The tables of a store's file, and the migration of older files."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from importlib import resources
from typing import NamedTuple

from waypost.storage.generation import new_generation

__all__ = ["OLDEST_VERSION", "SCHEMA_VERSION", "is_current", "migrate", "read_schema"]

SCHEMA_VERSION = 6
"""The version of the tables that this Waypost makes."""

OLDEST_VERSION = 2
"""The oldest version that it can read."""

_WITHOUT_ACCOUNTS = 4
_QUEUE_TABLES = ("queue", "message", "deduplication", "consumer", "settled", "delivery", "dead_letter")

# Building an index reads its table, and may take long. This many rows take a moment.
_FEW_ROWS = 100_000
_NEW_INDEX, _FORMER_INDEX = "scheduled_id", "scheduled_queue"

# A consumer's frontier is the last position that it has settled or that was lost on the way to it; what it has not
# settled up to there is outstanding. No message is for one consumer alone yet.
_COPY = """
INSERT INTO message (queue, position, id, enqueued_at, key, expires_at, record)
    SELECT queue, position, id, enqueued_at, key, expires_at, record FROM old_message;
INSERT INTO deduplication SELECT queue, id, position, accepted_at, until FROM old_deduplication;
INSERT INTO queue (id, name, generation, top, for_all, messages, bytes)
    SELECT id, name, '', top, top, messages, bytes FROM old_queue;
INSERT INTO consumer (id, queue, name, epoch, frontier, passed, active_at)
    SELECT id, queue, name, row_number() OVER (PARTITION BY queue ORDER BY id), max(cursor,
        coalesce((SELECT max(last) FROM old_settled s WHERE s.consumer = c.id), 0),
        coalesce((SELECT max(position) FROM old_delivery d WHERE d.consumer = c.id), 0)), 0, unixepoch()
    FROM old_consumer c;
INSERT INTO outstanding (consumer, position, queue, key, losses, retry_at)
    SELECT c.id, m.position, m.queue, m.key, coalesce(d.lost, 0), iif(d.lost > 0, unixepoch(), 0)
    FROM old_consumer o JOIN consumer c ON c.id = o.id
    JOIN message m ON m.queue = c.queue AND m.position > o.cursor AND m.position <= c.frontier
    LEFT JOIN old_delivery d ON d.consumer = c.id AND d.position = m.position
    WHERE coalesce((SELECT last FROM old_settled s WHERE s.consumer = c.id AND s.first <= m.position
        ORDER BY s.first DESC LIMIT 1), 0) < m.position;
UPDATE consumer SET
    outstanding = (SELECT count(*) FROM outstanding o WHERE o.consumer = consumer.id),
    retrying = (SELECT count(*) FROM outstanding o WHERE o.consumer = consumer.id AND o.retry_at > 0),
    passed = (SELECT for_all FROM queue q WHERE q.id = consumer.queue) - (SELECT count(*) FROM message m
        WHERE m.queue = consumer.queue AND m.position > consumer.frontier);
UPDATE queue SET
    consumers = (SELECT count(*) FROM consumer c WHERE c.queue = queue.id),
    epochs = (SELECT coalesce(max(epoch), 0) FROM consumer c WHERE c.queue = queue.id);
"""


class _Object(NamedTuple):
    """A table, index or trigger, as SQLite lists it."""

    type: str
    name: str
    table: str
    sql: str


def read_schema() -> str:
    """Return the statements that make the tables."""
    return resources.files("waypost.storage").joinpath("schema.sql").read_text(encoding="utf-8")


def is_current(connection: sqlite3.Connection) -> bool:
    """Return whether a file has the tables of this version."""
    ((version,),) = connection.execute("PRAGMA user_version").fetchall()
    return bool(version == SCHEMA_VERSION)


def migrate(connection: sqlite3.Connection) -> None:
    """Migrate an older file to the tables of this version, in one transaction; a current file is not changed.

    From version 5 on, no row of a large table is read or written.
    """
    if is_current(connection):
        _build_late_index(connection)
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        ((version,),) = connection.execute("PRAGMA user_version").fetchall()
        if version == OLDEST_VERSION:
            _from_version_2(connection)
        elif version == _WITHOUT_ACCOUNTS:
            _from_version_4(connection)
        else:
            _complete(connection)
        # Who holds what is noted for functions of the server's process only.
        connection.execute("DELETE FROM holding WHERE holder NOT LIKE 'worker %'")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _from_version_2(connection: sqlite3.Connection) -> None:
    """Rebuild the queues' tables, and make those behind them: version 2 kept what was settled as runs."""
    for table in _QUEUE_TABLES:
        connection.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
    for index in ("deduplication_end", "consumer_cursor"):
        connection.execute(f"DROP INDEX {index}")
    _complete(connection)
    _run(connection, _COPY)
    for (queue,) in connection.execute("SELECT id FROM queue").fetchall():
        connection.execute("UPDATE queue SET generation = ? WHERE id = ?", (new_generation(), queue))
    for table in _QUEUE_TABLES:
        connection.execute(f"DROP TABLE old_{table}")


def _from_version_4(connection: sqlite3.Connection) -> None:
    """Rebuild the table of answers with an account for each answer, which version 4 did not have."""
    connection.execute("DROP INDEX answer_age")
    connection.execute("ALTER TABLE answer RENAME TO old_answer")
    _complete(connection)
    connection.execute(
        "INSERT INTO answer (client, sequence, message, at, account, record) "
        "SELECT client, sequence, message, at, '', record FROM old_answer"
    )
    connection.execute("DROP TABLE old_answer")


def _complete(connection: sqlite3.Connection) -> None:
    """Make the tables, columns, indexes and triggers that a file lacks.

    A table that has fewer columns gets the others at its end, with their defaults: its rows stay as they are.
    """
    with closing(sqlite3.connect(":memory:")) as empty:
        empty.executescript(read_schema())
        wanted = _objects(empty)
        there = {one.name: one for one in _objects(connection)}
        lacking = [one for one in wanted if one.type == "table" and one.name in there and there[one.name] != one]
        _extend_tables(connection, empty, lacking)
    for one in wanted:
        found = there.get(one.name)
        if found is not None and found != one and one.type == "trigger":
            connection.execute(f"DROP TRIGGER {one.name}")
            found = None
        if found is None and one.name != _NEW_INDEX:
            connection.execute(one.sql)
    _build_late_index(connection)


def _extend_tables(connection: sqlite3.Connection, like: sqlite3.Connection, tables: list[_Object]) -> None:
    """Add columns at the end of tables.

    Not by ALTER TABLE, which reads a STRICT table from one end to the other: the text of the table is replaced, as
    SQLite's own documentation describes it. A row that lacks the last columns has their defaults.
    """
    connection.execute("PRAGMA writable_schema = ON")
    try:
        for one in tables:
            connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (one.sql, one.name))
    except sqlite3.DatabaseError:
        # An SQLite that protects its schema; slower where there are many rows.
        for one in tables:
            _alter_table(connection, like, one.name)
    else:
        ((schema_version,),) = connection.execute("PRAGMA schema_version").fetchall()
        connection.execute(f"PRAGMA schema_version = {schema_version + 1}")
    finally:
        connection.execute("PRAGMA writable_schema = RESET")


def _alter_table(connection: sqlite3.Connection, like: sqlite3.Connection, table: str) -> None:
    """Add the columns that a table lacks, compared with that of another file."""
    columns = 'SELECT name, type, "notnull", dflt_value FROM pragma_table_info(?)'
    there = {name for name, *_ in connection.execute(columns, (table,))}
    for name, kind, not_null, default in like.execute(columns, (table,)).fetchall():
        if name not in there:
            constraint = f" NOT NULL DEFAULT {default}" if not_null else ""
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {name} {kind}{constraint}")


def _build_late_index(connection: sqlite3.Connection) -> None:
    """Let the index on the ids of delayed messages take the place of the former one, if there are few of them."""
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'index'")}
    ((rows,),) = connection.execute("SELECT coalesce(max(number) - min(number), 0) FROM scheduled").fetchall()
    if _NEW_INDEX in names or (_FORMER_INDEX in names and rows > _FEW_ROWS):
        return
    connection.execute(f"CREATE INDEX {_NEW_INDEX} ON scheduled (queue, id)")
    connection.execute(f"DROP INDEX IF EXISTS {_FORMER_INDEX}")


def _objects(connection: sqlite3.Connection) -> list[_Object]:
    rows = connection.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' "
        "ORDER BY rowid"
    )
    return [_Object(*row) for row in rows]


def _run(connection: sqlite3.Connection, script: str) -> None:
    # Not executescript, which would commit first.
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
