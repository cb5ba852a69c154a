"""The content of a message: it stays the same in the queue, while it is delayed, and as a dead letter."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from waypost.storage.queue_records import NewMessageRow, counted_bytes
from waypost.storage.sqlite.bodies import LARGE_BYTES, keep_body
from waypost.storage.sqlite.sums import message_sum

__all__ = [
    "MESSAGE_COLUMNS",
    "PLAIN_COLUMNS",
    "Content",
    "Place",
    "content_of",
    "is_damaged",
    "message_row",
]

PLAIN_COLUMNS = "queue, position, enqueued_at, expires_at, id, key, sum, record"
"""The columns of a message without headers that is not large."""

MESSAGE_COLUMNS = "queue, position, enqueued_at, expires_at, id, key, headers, sum, record, size, body"
"""The columns of what `message_row` returns."""

Place = tuple[int, int, float, float | None]
"""A message's queue and position, when it got the position, and from when on it is not delivered."""


class Content(NamedTuple):
    """A message's content.

    Attributes:
        id: The message's id.
        key: The ordering key.
        headers: The message's headers.
        sum: The sum of all else; ``None`` if a version without sums wrote it.
        record: The encoded event.
    """

    id: str
    key: str | None
    headers: str | None
    sum: int | None
    record: bytes

    @property
    def size(self) -> int:
        """The bytes that the message counts for."""
        return counted_bytes(self.record, self.headers)


def content_of(message: NewMessageRow, *, damaged: bool = False) -> Content:
    """Return the content of a new message.

    Args:
        message: The message.
        damaged: Whether it was found to be damaged on its way; then it gets a sum that is not its own.
    """
    message_id, record, key, _, _, headers = message
    kept_sum = message_sum(message_id, key, headers, record)
    return Content(message_id, key, headers, kept_sum ^ 1 if damaged else kept_sum, record)


def is_damaged(content: Content) -> bool:
    """Return whether a content that was read is not what was written, as far as that can be told."""
    return content.sum is not None and content.sum != message_sum(*content[:3], content.record)


def message_row(connection: sqlite3.Connection, place: Place, content: Content) -> tuple[object, ...]:
    """Return the row of `MESSAGE_COLUMNS` of a message; a large record is stored.

    Args:
        connection: The writer's connection.
        place: The message's place.
        content: The message's content.
    """
    message_id, key, headers, _, record = content
    names = len(message_id) + len(key or "") + len(headers or "")
    if len(record) + names > LARGE_BYTES:
        return (*place, *content[:-1], b"", content.size, keep_body(connection, record))
    return (*place, *content, content.size, None)
