"""The tables of a store's file, and the migration of older files."""

from __future__ import annotations

import sqlite3
from importlib import resources

from waypost.storage.generation import new_generation

__all__ = ["OLDEST_VERSION", "SCHEMA_VERSION", "migrate", "read_schema"]

SCHEMA_VERSION = 5
"""The version of the tables that this Waypost makes."""

OLDEST_VERSION = 2
"""The oldest version that it can read."""

_WITHOUT_ANSWERS = 3
_QUEUE_TABLES = ("queue", "message", "deduplication", "consumer", "settled", "delivery", "dead_letter")

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


def read_schema() -> str:
    """Return the statements that make the tables."""
    return resources.files("waypost.storage").joinpath("schema.sql").read_text(encoding="utf-8")


def migrate(connection: sqlite3.Connection) -> None:
    """Migrate an older file to the tables of this version, in one transaction; a current file is not changed."""
    ((version,),) = connection.execute("PRAGMA user_version").fetchall()
    if version == SCHEMA_VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        if version == OLDEST_VERSION:
            _from_version_2(connection)
        elif version == _WITHOUT_ANSWERS:
            _add_answers(connection)
        else:
            _count_answers(connection)
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
    schema = read_schema()
    _run(connection, schema[schema.index("CREATE TABLE queue") :])
    _run(connection, _COPY)
    for (queue,) in connection.execute("SELECT id FROM queue").fetchall():
        connection.execute("UPDATE queue SET generation = ? WHERE id = ?", (new_generation(), queue))
    for table in _QUEUE_TABLES:
        connection.execute(f"DROP TABLE old_{table}")


def _add_answers(connection: sqlite3.Connection) -> None:
    """Make the tables of answers, which version 3 did not have."""
    schema = read_schema()
    _run(connection, schema[schema.index("CREATE TABLE answer") :])


def _count_answers(connection: sqlite3.Connection) -> None:
    """Rebuild the table of answers with an account for each answer, which version 4 did not have."""
    connection.execute("DROP INDEX answer_age")
    connection.execute("ALTER TABLE answer RENAME TO old_answer")
    _add_answers(connection)
    connection.execute(
        "INSERT INTO answer (client, sequence, message, at, account, record) "
        "SELECT client, sequence, message, at, '', record FROM old_answer"
    )
    connection.execute("DROP TABLE old_answer")


def _run(connection: sqlite3.Connection, script: str) -> None:
    # Not executescript, which would commit first.
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
