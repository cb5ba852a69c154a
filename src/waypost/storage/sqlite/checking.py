"""Looks at the sum of each record in a file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from waypost.storage.sqlite.bodies import MESSAGE_RECORD, record_of
from waypost.storage.sqlite.journals.entries import damaged_positions
from waypost.storage.sqlite.sums import answer_sum, message_sum, session_sum, values_sum

__all__ = ["TABLES", "damaged_records"]


class _Kind(NamedTuple):
    """A kind of records.

    Attributes:
        query: Selects a name for each record, its sum, and what the sum is of.
        sum: Computes the sum of that.
        words: The record in words, with a place for its name.
    """

    query: str
    sum: Callable[..., int]
    words: str


_CONTENT = "id, key, headers, record"
_QUEUE = "coalesce((SELECT name FROM queue q WHERE q.id = m.queue), m.queue)"
_KINDS = {
    "message": _Kind(
        f"SELECT {_QUEUE} || ', ' || position, sum, id, key, headers, {MESSAGE_RECORD} FROM message m",
        message_sum,
        "message {} (queue, offset)",
    ),
    "scheduled": _Kind(f"SELECT number, sum, {_CONTENT} FROM scheduled", message_sum, "delayed message {}"),
    "outbox": _Kind(f"SELECT number, sum, {_CONTENT} FROM outbox", message_sum, "published message {}"),
    "dead_letter": _Kind(f"SELECT number, sum, {_CONTENT} FROM dead_letter", message_sum, "dead letter {}"),
    "session": _Kind("SELECT sid, sum, key, data FROM session", session_sum, "the data of session {}"),
    "membership": _Kind(
        "SELECT session, sum, session, room, since, until FROM membership", values_sum, "a room of session number {}"
    ),
    "answer": _Kind(
        f"SELECT message, sum, client, message, {record_of('a')} FROM answer a", answer_sum, "the answer to {}"
    ),
}
_MARKS = _Kind("SELECT sid, marks, sid, start, proven, last FROM session", values_sum, "the place of session {}")

TABLES = frozenset({"chunk", *_KINDS})
"""The tables with sums."""


def damaged_records(connection: sqlite3.Connection, table: str) -> Iterator[str]:
    """Return the damaged records of a table, in words. The connection reads texts leniently.

    Args:
        connection: A connection to a file in the current format.
        table: One of `TABLES`.

    Raises:
        sqlite3.Error: The table can't be read.
    """
    if table == "chunk":
        for journal, name in connection.execute("SELECT id, name FROM journal").fetchall():
            for position in damaged_positions(connection, journal):
                yield f"event {position} of {name} is damaged"
        return
    yield from _damaged(connection, _KINDS[table])
    if table == "session":
        yield from _damaged(connection, _MARKS)


def _damaged(connection: sqlite3.Connection, kind: _Kind) -> Iterator[str]:
    content: list[Any]
    for name, kept_sum, *content in connection.execute(kind.query):
        # A body that is missing is NULL, as the last value.
        is_missing = content[-1] is None and kind.sum is not values_sum
        if kept_sum is not None and (is_missing or kind.sum(*content) != kept_sum):
            yield f"{kind.words.format(name)} is damaged"
