"""Whole queues on disk: creation, state, configuration, removal, and the limits on age."""

from __future__ import annotations

import secrets
import sqlite3
from itertools import takewhile

from waypost.storage.generation import new_generation
from waypost.storage.queue_base import DEAD_LETTER_S
from waypost.storage.queue_records import Configuration, QueueLimits, QueueRow
from waypost.storage.sqlite.bodies import SCHEDULED_SIZE
from waypost.storage.sqlite.jobs import Transaction
from waypost.storage.sqlite.queues.removal import drop, lose

__all__ = [
    "LIMITS",
    "begin_generations",
    "cancel",
    "configuration",
    "configurations",
    "configure",
    "delete",
    "end_aged",
    "end_outlived",
    "forget_dead",
    "forget_ids",
    "info",
    "infos",
    "make_queue",
    "own_limits",
    "queues_to_age",
    "remove_rest",
]

# One step of deleting is one job between others.
_STEP = 250
# Few enough that the epochs that follow are whole numbers for JavaScript, too.
_EPOCH_BITS = 50
# The name of what is left of a queue that was deleted: no queue can be asked for by it.
_REST = ""
_RESTS = (
    ("message", "position"),
    ("scheduled", "number"),
    ("deduplication", "id"),
    ("outstanding", "position"),
    ("dead_letter", "number"),
    ("consumer", "id"),
)

_INFO = (
    "q.name, q.generation, q.top, q.messages, q.delayed, q.bytes, "
    "CASE WHEN q.messages > 0 THEN "
    "(SELECT enqueued_at FROM message m WHERE m.queue = q.id AND position > q.floor ORDER BY position LIMIT 1) END, "
    "q.consumers, q.dead, q.expired, q.dropped, q.paused_until"
)


def make_queue(tx: Transaction, name: str) -> int:
    """Return a queue's number, made if need be."""
    found = tx.connection.execute("SELECT id FROM queue WHERE name = ?", (name,)).fetchall()
    if not found:
        found = tx.connection.execute(
            "INSERT INTO queue (name, generation, epochs) VALUES (?, ?, ?) RETURNING id",
            # Another program may have deleted a queue of that name: an ack of its time must not count for this one.
            (name, new_generation(), secrets.randbits(_EPOCH_BITS)),
        ).fetchall()
    return int(found[0][0])


def infos(connection: sqlite3.Connection, after: str, most: int, idle: bool) -> list[QueueRow]:
    """Return the states of queues whose names come after one, by name; without ``idle`` only those that keep some."""
    rows = connection.execute(
        f"SELECT {_INFO} FROM queue q WHERE q.name > ? AND (? OR q.messages > 0 OR q.delayed > 0 OR q.dead > 0) "
        "ORDER BY q.name LIMIT ?",
        (after, idle, most),
    ).fetchall()
    return [*map(QueueRow._make, rows)]


def info(connection: sqlite3.Connection, name: str) -> QueueRow:
    """Return a queue's state."""
    rows = connection.execute(f"SELECT {_INFO} FROM queue q WHERE q.name = ?", (name,)).fetchall()
    return QueueRow(*rows[0]) if rows else QueueRow(name)


def configure(tx: Transaction, name: str, limits: QueueLimits | None, settings: bytes) -> None:
    """Keep limits and settings."""
    own: tuple[object, ...] = (None,) * 5
    if limits is not None:
        own = (limits.max_messages, limits.max_bytes, limits.max_age_s, limits.overflow, limits.keep_settled_s)
    tx.connection.execute(
        "UPDATE queue SET max_messages = ?, max_bytes = ?, max_age_s = ?, overflow = ?, keep_settled_s = ?, "
        "settings = ? WHERE id = ?",
        (*own, settings, make_queue(tx, name)),
    )


def configurations(connection: sqlite3.Connection, name: str | None = None) -> list[Configuration]:
    """Return the configuration of every queue that has one, or of one queue."""
    rows = connection.execute(
        f"SELECT name, settings, {LIMITS} FROM queue "
        "WHERE settings IS NOT NULL AND name = coalesce(?, name) ORDER BY name",
        (name,),
    ).fetchall()
    return [Configuration(queue, own_limits(*own), settings) for queue, settings, *own in rows]


def configuration(connection: sqlite3.Connection, name: str) -> Configuration:
    """Return a queue's configuration."""
    found = configurations(connection, name)
    return found[0] if found else Configuration(name, None, b"")


LIMITS = "max_messages, max_bytes, max_age_s, CAST(overflow AS BLOB), keep_settled_s"
"""The columns that `own_limits` takes."""


def own_limits(
    max_messages: int | None,
    max_bytes: int | None,
    max_age_s: float | None,
    overflow: bytes | None,
    keep_settled_s: float | None,
) -> QueueLimits | None:
    """Return a queue's own limits, as they are in its row."""
    if max_messages is None or max_bytes is None or max_age_s is None:
        return None
    return QueueLimits(
        max_messages=max_messages,
        max_bytes=max_bytes,
        max_age_s=max_age_s,
        overflow="drop_oldest" if overflow == b"drop_oldest" else "refuse",
        keep_settled_s=keep_settled_s or 0.0,
    )


def cancel(tx: Transaction, name: str, message_id: str) -> int:
    """Remove a queue's messages with an id that are not due yet; returns how many."""
    published = tx.connection.execute(
        "DELETE FROM outbox WHERE queue = ? AND id = ? AND delay_s > 0", (name, message_id)
    ).rowcount
    found = tx.connection.execute("SELECT id, scheduled_floor FROM queue WHERE name = ?", (name,)).fetchall()
    if not found:
        return published
    ((queue, floor),) = found
    sizes = tx.connection.execute(
        "DELETE FROM scheduled WHERE queue = ? AND id = ? AND consumer IS NULL AND number > ? "
        f"RETURNING {SCHEDULED_SIZE}",
        (queue, message_id, floor),
    ).fetchall()
    if sizes:
        tx.connection.execute(
            "UPDATE queue SET delayed = delayed - ?, bytes = bytes - ? WHERE id = ?",
            (len(sizes), sum(size for (size,) in sizes), queue),
        )
        tx.connection.execute(
            "DELETE FROM deduplication WHERE queue = ? AND id = ? AND position < 0", (queue, message_id)
        )
    return published + len(sizes)


def delete(tx: Transaction, name: str) -> bool:
    """Let a queue be gone at once, however much it has; `remove_rest` removes that.

    Returns:
        Whether it is; if not, there was a rest of an earlier one, and some of that was removed: try again.
    """
    if remove_rest(tx):
        return False
    gone = tx.connection.execute(
        "UPDATE queue SET name = ?, settings = NULL WHERE name = ? RETURNING id", (_REST, name)
    ).fetchall()
    for (queue,) in gone:
        tx.connection.execute(
            "DELETE FROM holding WHERE consumer IN (SELECT id FROM consumer WHERE queue = ?)", (queue,)
        )
        # `remove_rest` removes that, too; the queue's number may be given again afterwards.
        tx.connection.execute("DELETE FROM sweep WHERE queue = ? AND kind <> 'consumer'", (queue,))
    return True


def remove_rest(tx: Transaction) -> int:
    """Remove some of what is left of a queue that was deleted; returns how much, 0 if nothing is left."""
    for (queue,) in tx.connection.execute("SELECT id FROM queue WHERE name = ?", (_REST,)).fetchall():
        # Consumers last: their numbers may be given again, and then their rows elsewhere must be gone.
        for table, column in _RESTS:
            removed = tx.connection.execute(
                f"DELETE FROM {table} WHERE queue = ?1 AND {column} IN "
                f"(SELECT {column} FROM {table} WHERE queue = ?1 LIMIT ?2)",
                (queue, _STEP),
            ).rowcount
            if removed:
                return removed
        return tx.connection.execute("DELETE FROM queue WHERE id = ?", (queue,)).rowcount
    return 0


def begin_generations(connection: sqlite3.Connection) -> None:
    """Begin a generation of every queue, as its positions may come to mean other messages than they did."""
    for (queue,) in connection.execute("SELECT id FROM queue").fetchall():
        connection.execute("UPDATE queue SET generation = ? WHERE id = ?", (new_generation(), queue))


# -- what time ends ----------------------------------------------------------------------------------------------


def queues_to_age(connection: sqlite3.Connection, now: float, max_age_s: float) -> list[int]:
    """Find the queues whose oldest message is too old."""
    rows = connection.execute(
        "SELECT id FROM queue WHERE messages > 0 AND (SELECT enqueued_at FROM message m WHERE m.queue = queue.id "
        "AND position > floor ORDER BY position LIMIT 1) < ? - coalesce(max_age_s, ?)",
        (now, max_age_s),
    ).fetchall()
    return [queue for (queue,) in rows]


def end_aged(tx: Transaction, queue: int, max_age_s: float) -> int:
    """Let a queue lose some of its messages that are too old; returns how many, 0 if no more are there."""
    rows = tx.connection.execute(
        "SELECT m.position, m.enqueued_at < ? - coalesce(q.max_age_s, ?) FROM queue q "
        "JOIN message m ON m.queue = q.id AND m.position > q.floor WHERE q.id = ? ORDER BY m.position LIMIT ?",
        (tx.now, max_age_s, queue, _STEP),
    ).fetchall()
    # Behind a younger one, which a clock that was set back may leave, they wait.
    positions = [position for position, _ in takewhile(lambda row: row[1], rows)]
    lose(tx.connection, queue, positions)
    return len(positions)


def end_outlived(tx: Transaction) -> int:
    """Remove some messages that have outlived their time to live; returns how many, 0 if no more are there."""
    rows = tx.connection.execute(
        "SELECT m.queue, m.position FROM message m JOIN queue q ON q.id = m.queue "
        "WHERE m.expires_at <= ? AND m.position > q.floor LIMIT ?",
        (tx.now, _STEP),
    ).fetchall()
    positions: dict[int, list[int]] = {}
    for queue, position in sorted(rows):
        positions.setdefault(queue, []).append(position)
    for queue, outlived in positions.items():
        drop(tx.connection, queue, outlived)
        tx.connection.execute("UPDATE queue SET expired = expired + ? WHERE id = ?", (len(outlived), queue))
    return len(rows)


def forget_dead(tx: Transaction) -> int:
    """Forget some dead letters that are too old; returns how many, 0 if no more are there."""
    rows = tx.connection.execute(
        "DELETE FROM dead_letter WHERE number IN (SELECT d.number FROM dead_letter d "
        "JOIN consumer c ON c.id = d.consumer AND c.queue = d.queue WHERE d.died_at < ? LIMIT ?) "
        "RETURNING queue, consumer",
        (tx.now - DEAD_LETTER_S, _STEP),
    ).fetchall()
    tx.connection.executemany("UPDATE queue SET dead = dead - 1 WHERE id = ?", [(queue,) for queue, _ in rows])
    tx.connection.executemany("UPDATE consumer SET dead = dead - 1 WHERE id = ?", [(one,) for _, one in rows])
    return len(rows)


def forget_ids(tx: Transaction) -> int:
    """Forget some ids whose deduplication window has ended; returns how many, 0 if no more are there."""
    return tx.connection.execute(
        "DELETE FROM deduplication WHERE (queue, id) IN "
        "(SELECT queue, id FROM deduplication WHERE until <= ? LIMIT ?)",
        (tx.now, _STEP),
    ).rowcount
