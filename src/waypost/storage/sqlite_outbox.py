"""Publishing in an application's own transaction, on its own connection to the store's file.

What is published is a row in the outbox, invisible until the application commits; soon after, the store's owner moves
it into its queue, in the order of the commits and in one transaction: so it is never in both.
"""

from __future__ import annotations

import sqlite3
import time

from waypost.errors import QueueFull
from waypost.storage.queue_records import NewMessage, QueueLimits
from waypost.storage.sqlite_file import translate
from waypost.storage.sqlite_queues import own_limits

__all__ = ["publish"]


def publish(
    connection: sqlite3.Connection,
    queue: str,
    message: NewMessage,
    *,
    deduplicate_s: float,
    limits: QueueLimits,
    wall_time: float | None = None,
) -> None:
    """Put a message into a queue with the transaction that a connection is in, or that this begins.

    Args:
        connection: A connection to the store's file. Committing and rolling back is the caller's affair, and so are
            threads: it is used in the one that calls.
        queue: The queue's name.
        message: The message. A delay counts from now, a time to live from when it is due.
        deduplicate_s: A message whose id was accepted within so many seconds before is not added again; 0 for never.
            Nobody is told.
        limits: The limits of a queue that has none of its own.
        wall_time: Now, in seconds; ``None`` asks the clock.

    Raises:
        QueueFull: The queue keeps as much as it may, and refuses.
        StorageError: The connection's file is no store, or can't be written to.

    Delivery: at least once, once the transaction is committed; in the order of the commits.
    """
    try:
        _check_room(connection, queue, message, limits)
        connection.execute(
            "INSERT INTO outbox (queue, id, record, key, ttl_s, delay_s, deduplicate_s, published_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                queue,
                message.id,
                message.record,
                message.key,
                message.ttl_s,
                message.delay_s,
                deduplicate_s,
                time.time() if wall_time is None else wall_time,
            ),
        )
    except sqlite3.Error as error:
        raise translate(_file(connection), error) from error


def _check_room(connection: sqlite3.Connection, queue: str, message: NewMessage, limits: QueueLimits) -> None:
    """Refuse what does not fit, as it can't be refused any more once it is committed."""
    rows = connection.execute(
        "SELECT messages + delayed, bytes, max_messages, max_bytes, max_age_s, overflow FROM queue WHERE name = ?",
        (queue,),
    ).fetchall()
    for messages, size, *own in rows or [(0, 0, None, None, None, None)]:
        holding = own_limits(*own) or limits
        is_full = messages + 1 > holding.max_messages or size + len(message.record) > holding.max_bytes
        if is_full and holding.overflow == "refuse":
            store = _file(connection)
            raise QueueFull(store, queue, messages, size, holding.max_messages, holding.max_bytes)


def _file(connection: sqlite3.Connection) -> str:
    names = [file for _, name, file in connection.execute("PRAGMA database_list").fetchall() if name == "main"]
    return names[0] if names and names[0] else "in memory"
