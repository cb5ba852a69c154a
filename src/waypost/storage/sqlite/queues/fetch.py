"""Messages as they are read from the file: a consumer's, or a queue's."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable
from typing import Any, TypeAlias

from waypost.storage.queue_records import MessageRow, Retries
from waypost.storage.sqlite.bodies import MESSAGE_RECORD
from waypost.storage.sqlite.queues.consumers import ConsumerState
from waypost.storage.sqlite.sums import message_sum

__all__ = ["fetch", "fetch_key", "fetch_retries", "peek"]

_MESSAGE = f"m.sum, m.position, m.id, {MESSAGE_RECORD}, m.enqueued_at, m.key, m.expires_at, m.headers"
_POSITION, _EXPIRES_AT, _COLUMNS = 1, 6, 8
# So many fields of a `MessageRow` come before those of its attempts.
_COUNTED = 6
_new_tuple = tuple.__new__
_FOUND = "JOIN message m ON m.queue = o.queue AND m.position = o.position"
# In the order of `MessageRow`, behind the columns of the message.
_ATTEMPTS = "o.failures, o.losses, o.retry_at, o.breaks, o.breaks_since, o.deaths"
_Row: TypeAlias = tuple[Any, ...]


def fetch(
    connection: sqlite3.Connection, consumer: ConsumerState, after: int, max_messages: int, max_bytes: int, now: float
) -> list[MessageRow]:
    """Read what a consumer has not settled after a position."""
    messages: list[MessageRow] = []
    after = max(after, consumer.floor)
    if consumer.outstanding:
        rows = connection.execute(
            f"SELECT {_MESSAGE}, {_ATTEMPTS} FROM outstanding o {_FOUND} WHERE o.consumer = ? AND o.position > ? "
            "AND (m.expires_at IS NULL OR m.expires_at > ?) ORDER BY o.position LIMIT ?",
            (consumer.ledger, after, now, max_messages),
        )
        if _fill(messages, map(_tried, rows), max_messages, max_bytes):
            return messages
    if consumer.fresh == 0:
        return messages
    rows = connection.execute(
        f"SELECT {_MESSAGE} FROM message m WHERE m.queue = ? AND m.position > ? "
        "AND (m.consumer IS NULL OR m.consumer = ?) AND (m.expires_at IS NULL OR m.expires_at > ?) "
        "ORDER BY m.position LIMIT ?",
        (consumer.queue, max(after, consumer.frontier), consumer.id, now, max_messages - len(messages)),
    )
    _fill(messages, map(_fresh, rows), max_messages, max_bytes)
    return messages


def fetch_key(
    connection: sqlite3.Connection,
    consumer: ConsumerState,
    key: str,
    after: int,
    upto: int,
    max_messages: int,
    max_bytes: int,
    now: float,
) -> list[MessageRow]:
    """Read what a consumer has not settled after a position and up to one, of the messages with a key."""
    after = max(after, consumer.floor)
    rows = connection.execute(
        f"SELECT {_MESSAGE}, {_ATTEMPTS} FROM outstanding o {_FOUND} WHERE o.consumer = ? AND o.key = ? "
        "AND o.position > ? AND o.position <= ? AND (m.expires_at IS NULL OR m.expires_at > ?) "
        "ORDER BY o.position LIMIT ?",
        (consumer.ledger, key, after, upto, now, max_messages),
    )
    messages: list[MessageRow] = []
    if _fill(messages, map(_tried, rows), max_messages, max_bytes):
        return messages
    rows = connection.execute(
        f"SELECT {_MESSAGE} FROM message m WHERE m.queue = ? AND m.key = ? AND m.position > ? "
        "AND m.position <= ? AND (m.consumer IS NULL OR m.consumer = ?) "
        "AND (m.expires_at IS NULL OR m.expires_at > ?) ORDER BY m.position LIMIT ?",
        (
            consumer.queue,
            key,
            max(after, consumer.frontier),
            upto,
            consumer.id,
            now,
            max_messages - len(messages),
        ),
    )
    _fill(messages, map(_fresh, rows), max_messages, max_bytes)
    return messages


def fetch_retries(
    connection: sqlite3.Connection,
    consumer: ConsumerState,
    upto: int,
    held: Collection[int],
    max_messages: int,
    max_bytes: int,
    now: float,
) -> Retries:
    """Read what failed or was lost at a consumer before and is due again."""
    if consumer.retrying == 0:
        return Retries((), None)
    rows = connection.execute(
        f"SELECT {_MESSAGE}, {_ATTEMPTS} FROM outstanding o {_FOUND} WHERE o.consumer = ? AND o.retry_at > 0 "
        "AND o.retry_at <= ? AND o.position > ? ORDER BY o.retry_at, o.position",
        (consumer.ledger, now, consumer.floor),
    )
    wanted = (
        row
        for row in rows
        if row[_POSITION] <= upto
        and row[_POSITION] not in held
        and (row[_EXPIRES_AT] is None or row[_EXPIRES_AT] > now)
    )
    messages: list[MessageRow] = []
    _fill(messages, map(_tried, wanted), max_messages, max_bytes)
    ((next_at,),) = connection.execute(
        "SELECT (SELECT retry_at FROM outstanding WHERE consumer = ? AND retry_at > 0 AND retry_at > ? "
        "AND position > ? ORDER BY retry_at LIMIT 1)",
        (consumer.ledger, now, consumer.floor),
    ).fetchall()
    return Retries(tuple(messages), next_at)


def peek(
    connection: sqlite3.Connection, queue: str, after: int, max_messages: int, max_bytes: int
) -> list[MessageRow]:
    """Read messages as a queue keeps them."""
    rows = connection.execute(
        f"SELECT {_MESSAGE} FROM queue q JOIN message m ON m.queue = q.id WHERE q.name = ? "
        "AND m.position > max(?, q.floor) ORDER BY m.position LIMIT ?",
        (queue, after, max_messages),
    )
    messages: list[MessageRow] = []
    _fill(messages, map(_fresh, rows), max_messages, max_bytes)
    return messages


def _fill(messages: list[MessageRow], found: Iterable[MessageRow], max_messages: int, max_bytes: int) -> bool:
    """Add messages within limits; returns whether a limit was reached."""
    size = sum(len(message.record) for message in messages)
    for message in found:
        size += len(message.record)
        if messages and size > max_bytes:
            return True
        messages.append(message)
        if len(messages) == max_messages:
            return True
    return False


def _fresh(row: _Row) -> MessageRow:
    """Return a message that was never tried, from a row of `_MESSAGE`."""
    # Each step is felt here: the constructor of `MessageRow` alone takes as long as all of this.
    kept_sum, position, message_id, record, enqueued_at, key, expires_at, headers = row
    fields = (position, message_id, record, enqueued_at, key, expires_at, 0, 0, 0.0, 0, 0, 0, headers, False)
    message = _new_tuple(MessageRow, fields)
    if record is None or (kept_sum is not None and kept_sum != message_sum(message_id, key, headers, record)):
        return _damaged(message)
    return message


def _tried(row: _Row) -> MessageRow:
    """Return a message from a row of `_MESSAGE` with `_ATTEMPTS` behind it."""
    fresh = _fresh(row[:_COLUMNS])
    return _new_tuple(MessageRow, (*fresh[:_COUNTED], *row[_COLUMNS:], *fresh[-2:]))


def _damaged(message: MessageRow) -> MessageRow:
    return message._replace(record=message.record or b"", damaged=True)
