"""The content of a store between two kinds of stores: plain rows, with times counted from the moment of reading."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, Protocol

__all__ = [
    "TABLES",
    "Column",
    "JournalCopy",
    "Reading",
    "Row",
    "SessionCopy",
    "Table",
    "Tombstone",
    "Writing",
    "convert",
]

Row = tuple[Any, ...]
"""The values of a row, in the order of its table's columns."""


class Column(NamedTuple):
    """A column of a table that both kinds of stores have.

    Attributes:
        name: Its name.
        type: Its type on PostgreSQL.
        kind: ``"time"``: a time of the store's; ``"history"``: attempts with their times, as JSON; ``"text"``: a text
            that may have any character.
    """

    name: str
    type: str
    kind: Literal["", "time", "history", "text"] = ""


class Table(NamedTuple):
    """A table.

    Attributes:
        name: Its name.
        columns: Its columns.
    """

    name: str
    columns: tuple[Column, ...]


_CONTENT = (
    Column("id", "text", "text"),
    Column("key", "text", "text"),
    Column("headers", "text", "text"),
    Column("sum", "bigint"),
    Column("record", "bytea"),
)


def _numbers(*names: str) -> tuple[Column, ...]:
    return tuple([Column(name, "bigint") for name in names])


TABLES: Final = (
    Table(
        "queue",
        (
            Column("id", "int"),
            Column("name", "text"),
            Column("generation", "text"),
            *_numbers("top", "for_all", "epochs", "messages", "delayed", "bytes", "consumers", "dead", "expired"),
            *_numbers("dropped", "floor", "scheduled_floor"),
            Column("paused_until", "float8"),
            *_numbers("max_messages", "max_bytes"),
            Column("max_age_s", "float8"),
            Column("overflow", "text"),
            Column("keep_settled_s", "float8"),
            Column("settings", "bytea"),
        ),
    ),
    Table(
        "consumer",
        (
            *_numbers("id", "queue"),
            Column("name", "text"),
            *_numbers("epoch", "frontier", "passed", "outstanding", "retrying", "settled", "failed", "redelivered"),
            *_numbers("dead", "lost", "lost_first", "lost_last"),
            Column("paused_until", "float8"),
            Column("active_at", "float8", "time"),
        ),
    ),
    Table(
        "message",
        (
            *_numbers("queue", "position"),
            Column("enqueued_at", "float8", "time"),
            Column("expires_at", "float8", "time"),
            Column("consumer", "bigint"),
            Column("history", "jsonb", "history"),
            *_CONTENT,
        ),
    ),
    Table(
        "scheduled",
        (
            *_numbers("number", "queue"),
            Column("due_at", "float8", "time"),
            Column("ttl_s", "float8"),
            Column("consumer", "bigint"),
            Column("history", "jsonb", "history"),
            *_CONTENT,
        ),
    ),
    Table(
        "outstanding",
        (
            *_numbers("consumer", "position", "queue"),
            Column("key", "text", "text"),
            *_numbers("failures", "losses"),
            Column("retry_at", "float8", "time"),
            Column("history", "jsonb", "history"),
            *_numbers("breaks", "breaks_since", "deaths"),
        ),
    ),
    Table(
        "dead_letter",
        (
            *_numbers("number", "queue", "consumer", "position"),
            Column("enqueued_at", "float8", "time"),
            Column("died_at", "float8", "time"),
            *_numbers("failures", "losses"),
            Column("reason", "text", "text"),
            Column("exception", "text", "text"),
            Column("history", "jsonb", "history"),
            *_CONTENT,
        ),
    ),
    Table(
        "settled",
        (*_numbers("queue", "first", "last"), Column("at", "float8", "time")),
    ),
    Table(
        "deduplication",
        (
            Column("queue", "int"),
            Column("id", "text", "text"),
            Column("position", "bigint"),
            Column("accepted_at", "float8", "time"),
            Column("until", "float8", "time"),
        ),
    ),
    Table("schedule", (Column("name", "text"), Column("last_at", "float8"))),
    Table(
        "answer",
        (
            Column("client", "bytea"),
            Column("sequence", "bigint"),
            Column("message", "text"),
            Column("at", "float8", "time"),
            Column("account", "text"),
            Column("given_up", "boolean"),
            Column("record", "bytea"),
        ),
    ),
)
"""The tables of queues and answers; rows refer only to those of tables before."""


@dataclass(frozen=True, slots=True)
class JournalCopy:
    """A journal.

    Attributes:
        number: Its number in the store that is read.
        name: Its name.
        generations: Its generations, the present one last, and the last position of each.
        oldest: The oldest position that is kept.
        top: Its newest position.
        before: The bytes of all records before the oldest one.
    """

    number: int
    name: str
    generations: tuple[tuple[str, int], ...]
    oldest: int
    top: int
    before: int


@dataclass(frozen=True, slots=True)
class SessionCopy:
    """A session, detached.

    Attributes:
        key: Its key.
        sid: The socket's public id.
        start: The journal's top when it began.
        proven: The position up to which all has arrived.
        last: The last position up to there that was sent.
        data: The application's data.
        left_s: Seconds until it ends.
        stuck_at: The event beyond which the client did not get.
        stuck_times: On how many connections.
        rooms: Its rooms, of now and earlier: name, since, until.
    """

    key: bytes
    sid: str
    start: int
    proven: int
    last: int
    data: bytes
    left_s: float
    stuck_at: int
    stuck_times: int
    rooms: tuple[tuple[str, int, int | None], ...]


class Tombstone(NamedTuple):
    """The remains of a session that has ended.

    Attributes:
        key: Its key.
        sid: The socket's public id.
        ago_s: How long ago it ended, in seconds.
    """

    key: bytes
    sid: str
    ago_s: float


class Reading(Protocol):
    """A store that is read, while nothing else uses it."""

    def journals(self) -> AsyncIterator[JournalCopy]:
        """Read the journals."""
        ...

    def entries(self, journal: JournalCopy) -> AsyncIterator[list[tuple[bytes, float]]]:
        """Read the entries of a journal in their order: each record, and how long ago it was appended."""
        ...

    def sessions(self, journal: JournalCopy) -> AsyncIterator[SessionCopy]:
        """Read the sessions of a journal."""
        ...

    def tombstones(self, journal: JournalCopy) -> AsyncIterator[Tombstone]:
        """Read what is left of sessions that have ended."""
        ...

    def emitted(self, journal: JournalCopy) -> AsyncIterator[tuple[str, float]]:
        """Read the ids of events of other programs, and for how many seconds each is still remembered."""
        ...

    def rows(self, table: Table) -> AsyncIterator[list[Row]]:
        """Read a table; its times are seconds from now."""
        ...


class Writing(Protocol):
    """An empty store that is written, all or nothing."""

    async def journal(self, journal: JournalCopy, reading: Reading) -> int:
        """Write a journal, with all that belongs to it; returns how many entries and sessions it has."""
        ...

    async def rows(self, table: Table, rows: list[Row]) -> None:
        """Write rows of a table."""
        ...

    async def finish(self) -> None:
        """Make all of it last."""
        ...


def convert(table: Table, row: Row, shift_s: float, text: Callable[[str], str]) -> Row:
    """Convert the values of a row from one store's form to another one's.

    Args:
        table: The row's table.
        row: The row.
        shift_s: Added to each time.
        text: Converts a text.
    """
    values: list[Any] = []
    for column, value in zip(table.columns, row, strict=True):
        # A retry without a time is one that never failed, or one at once.
        if value is None or (column.name == "retry_at" and value in (0, 1)):
            values.append(value)
        elif column.kind == "time":
            values.append(value + shift_s)
        elif column.kind == "text":
            values.append(text(value))
        elif column.kind == "history":
            values.append(_convert_history(value, shift_s, text))
        else:
            values.append(bool(value) if column.type == "boolean" else value)
    return tuple(values)


def _convert_history(history: str, shift_s: float, text: Callable[[str], str]) -> str:
    """Return a history with its times shifted and its texts converted; one that can't be read is empty."""
    try:
        items = [[at + shift_s, kind, *map(text, texts)] for at, kind, *texts in json.loads(history)]
    except (ValueError, TypeError):
        items = []
    return json.dumps(items)
