"""Publishes in an application's own transaction, on its own connection to the store's file.

A published message is a row in the outbox, invisible until the application commits. Soon after, the store's owner
moves it into its queue, in the order of the commits and in one transaction, so that it is never in both.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from waypost.errors import ConfigurationError, QueueFull, StorageError
from waypost.storage.outside import OutsideWrite, encode_write
from waypost.storage.queue_records import Configuration, NewMessageRow, QueueLimits
from waypost.storage.sqlite.disk_room import is_ample, shortage
from waypost.storage.sqlite.file import is_store, translate
from waypost.storage.sqlite.queues.queues import LIMITS, own_limits
from waypost.storage.sqlite.queues.rows import content_of
from waypost.storage.sqlite.turns import asking

__all__ = ["configuration_at", "file_of", "publish", "publishing", "write"]

# Writes nothing, but takes the lock: a transaction that reads first fails later if another one has written.
_LOCK = "UPDATE main.outbox SET queue = queue WHERE 0"
# The name of no queue: the row is a write to a journal.
_NO_QUEUE = ""


def publish(
    connection: sqlite3.Connection,
    queue: str,
    message: NewMessageRow,
    *,
    deduplicate_s: float,
    limits: QueueLimits,
    now: float | None = None,
) -> None:
    """Put a message into a queue with a connection's current transaction, or with a new one.

    Args:
        connection: A connection to the store's file. The caller commits or rolls back. It is used in the calling
            thread. In autocommit mode the message is committed at once.
        queue: The queue's name.
        message: The message. Its delay counts from now, its time to live from when it is due.
        deduplicate_s: The deduplication window, in seconds; 0 for none. A duplicate is dropped without a notice.
        limits: The limits of a queue without its own.
        now: The time on the store's clock, in seconds; ``None`` reckons it from the wall clock.

    Raises:
        QueueFull: The queue has reached its limits, and refuses messages.
        StoreFull: No more than the reserve of the disk is left.
        ConfigurationError: ``connection`` is not a connection of the module ``sqlite3``.
        StorageError: The connection's file is no store, or can't be written.

    Delivery: at least once, once the transaction is committed; in the order of the commits.
    """
    with publishing(connection):
        _take_lock(connection)
        _check_room(connection, queue, message, limits)
        _insert(connection, queue, message, deduplicate_s, _now(connection) if now is None else now)


def write(
    connection: sqlite3.Connection, wanted: OutsideWrite, *, write_id: str = "", deduplicate_s: float = 0.0
) -> None:
    """Put a write to a journal into the outbox, with a connection's current transaction or with a new one.

    Args:
        connection: As for `publish`.
        wanted: The write.
        write_id: Its id; a second write of an id in a journal is dropped without a notice. Empty for none.
        deduplicate_s: The window in which ids are repeats, in seconds.

    Raises:
        StoreFull: No more than the reserve of the disk is left.
        ConfigurationError: ``connection`` is not a connection of the module ``sqlite3``.
        StorageError: The connection's file is no store, or can't be written.

    Delivery: once, once the transaction is committed; in the order of the commits.
    """
    row = NewMessageRow(write_id, encode_write(wanted), None, None, 0.0, None)
    with publishing(connection):
        _take_lock(connection)
        _check_disk(connection, row.size)
        _insert(connection, _NO_QUEUE, row, deduplicate_s, _now(connection))


def _insert(
    connection: sqlite3.Connection, queue: str, message: NewMessageRow, deduplicate_s: float, now: float
) -> None:
    _run(
        connection,
        "INSERT INTO main.outbox (queue, ttl_s, delay_s, deduplicate_s, published_at, id, key, headers, sum, "
        "record) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (queue, message.ttl_s, message.delay_s, deduplicate_s, now, *content_of(message)),
    )


def configuration_at(connection: sqlite3.Connection, queue: str) -> Configuration:
    """Return a queue's configuration, for publishing; called within `publishing`.

    Args:
        connection: As for `publish`; it may be in a transaction afterwards.
        queue: The queue's name.
    """
    _take_lock(connection)
    rows = _run(connection, "SELECT settings FROM main.queue WHERE name = ?", (queue,))
    return Configuration(queue, None, rows[0][0] if rows and rows[0][0] else b"")


@contextmanager
def publishing(connection: sqlite3.Connection) -> Iterator[None]:
    """Raise our errors for those of SQLite, and leave no transaction open that the caller has not begun.

    Args:
        connection: As for `publish`.

    Raises:
        ConfigurationError: ``connection`` is not a connection of the module ``sqlite3``.
        StorageError: The connection's file is no store, or can't be written.
    """
    store = file_of(connection)
    was_in_transaction = connection.in_transaction
    try:
        yield
    except BaseException as error:
        if connection.in_transaction and not was_in_transaction:
            connection.rollback()
        if not isinstance(error, sqlite3.Error):
            raise
        if not is_store(connection):
            problem = "it is no store of Waypost's; connect to the file that the server's option `store` names"
            raise StorageError(store or "in memory", problem) from error
        raise translate(store, error) from error


def file_of(connection: sqlite3.Connection) -> str:
    """Return the file that a connection is to, without symbolic links; empty if there is none.

    Raises:
        ConfigurationError: It is no connection of the module ``sqlite3``.
        StorageError: It can't be used, or not in this thread.
    """
    if not isinstance(connection, sqlite3.Connection):
        raise ConfigurationError("connection", connection, "a sqlite3.Connection to the store's file")
    try:
        rows = _run(connection, "SELECT CAST(file AS BLOB) FROM pragma_database_list WHERE name = 'main'")
    except sqlite3.Error as error:
        raise StorageError("of a connection", str(error)) from error
    file = os.fsdecode(rows[0][0] or b"") if rows else ""
    return os.path.realpath(file) if file else ""


def _take_lock(connection: sqlite3.Connection) -> None:
    """Wait for the right to write, in turn with a busy server."""
    with nullcontext() if connection.in_transaction else asking(file_of(connection)):
        _run(connection, _LOCK)


def _check_room(connection: sqlite3.Connection, queue: str, message: NewMessageRow, limits: QueueLimits) -> None:
    """Refuse what does not fit, as it can't be refused any more once it is committed."""
    rows = _run(
        connection,
        f"SELECT messages + delayed, bytes, {LIMITS} FROM main.queue WHERE name = ?",
        (queue,),
    )
    for messages, size, *own in rows or [(0, 0, None, None, None, None, None)]:
        holding = own_limits(*own) or limits
        is_full = messages + 1 > holding.max_messages or size + message.size > holding.max_bytes
        if is_full and holding.overflow == "refuse":
            store = file_of(connection)
            raise QueueFull(store, queue, messages, size, holding.max_messages, holding.max_bytes)
    _check_disk(connection, message.size)


def _check_disk(connection: sqlite3.Connection, size: int) -> None:
    ((reserve_bytes,),) = _run(connection, "SELECT reserve_bytes FROM main.opening")
    path = Path(file_of(connection))
    if is_ample(path, reserve_bytes):
        return
    short = shortage(path, lambda sql: int(_run(connection, sql)[0][0]), reserve_bytes, size)
    if short is not None:
        raise short


def _now(connection: sqlite3.Connection) -> float:
    ((ahead_s,),) = _run(connection, "SELECT ahead_s FROM main.opening")
    return time.time() + float(ahead_s)


def _run(connection: sqlite3.Connection, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    # The application may have a row factory of its own, or read texts as something else: so texts come as bytes.
    cursor = connection.cursor()
    cursor.row_factory = None
    return cursor.execute(sql, values).fetchall()
