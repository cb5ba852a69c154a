"""Sums of what the file keeps, by which damage is found when it is read.

They find what a disk or a stray write has changed. They are no protection against somebody who changes the file on
purpose.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from zlib import crc32

__all__ = [
    "add_functions",
    "answer_sum",
    "entry_sum",
    "is_undecodable",
    "leniently",
    "message_sum",
    "session_sum",
    "values_sum",
]

_POSITION_BITS = 0xFFFF_FFFF


def entry_sum(position: int, record: bytes) -> int:
    """Return the sum of a journal's entry; an entry at another position has another one."""
    return crc32(record, position & _POSITION_BITS)


def message_sum(message_id: str, key: str | None, headers: str | None, record: bytes) -> int:
    """Return the sum of a message. It does not change when the message is moved, so it is copied with it."""
    if key is headers is None:
        # Most are like this.
        return crc32(record, crc32(message_id.encode()))
    value = crc32(message_id.encode())
    if key is not None:
        value = crc32(key.encode(), value)
    if headers is not None:
        value = crc32(headers.encode(), value)
    return crc32(record, value)


def session_sum(key: bytes, data: bytes) -> int:
    """Return the sum of a session's data."""
    return crc32(data, crc32(key))


def answer_sum(client: bytes, message: str, record: bytes) -> int:
    """Return the sum of an answer."""
    return crc32(record, crc32(message.encode(), crc32(client)))


def values_sum(*values: int | str | None) -> int:
    """Return the sum of the values of a row."""
    return crc32(repr(values).encode())


def add_functions(connection: sqlite3.Connection) -> None:
    """Let statements of a connection compute `values_sum`."""
    connection.create_function("values_sum", -1, values_sum, deterministic=True)


def is_undecodable(error: Exception) -> bool:
    """Return whether an error says that a text in the file is no text any more."""
    return isinstance(error, sqlite3.OperationalError) and "Could not decode to UTF-8" in str(error)


@contextmanager
def leniently(connection: sqlite3.Connection) -> Iterator[None]:
    """Read a damaged text as another text meanwhile; its sum then tells of the damage."""
    connection.text_factory = _decode
    try:
        yield
    finally:
        connection.text_factory = str


def _decode(text: bytes) -> str:
    return text.decode(errors="replace")
