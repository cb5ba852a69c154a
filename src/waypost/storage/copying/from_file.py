"""Reads a store in an SQLite file that no server has open."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from waypost.storage.copying.records import JournalCopy, Row, SessionCopy, Table, Tombstone, convert
from waypost.storage.queue_records import QueueLimits
from waypost.storage.sqlite.bodies import MESSAGE_RECORD, record_of
from waypost.storage.sqlite.file import open_database, take_ownership
from waypost.storage.sqlite.jobs import Transaction
from waypost.storage.sqlite.journals.entries import Appender, bytes_before, read_entries
from waypost.storage.sqlite.journals.matching import prepare
from waypost.storage.sqlite.queues import keeping
from waypost.storage.sqlite.queues.sweeps import sweep
from waypost.storage.sqlite.store import SqliteStore

__all__ = ["FileReading", "finish_work", "reading_file"]

_ROWS: Final = 500
_ENTRY_BYTES: Final = 4 << 20

_LIVING = "JOIN queue q ON q.id = {0}.queue AND q.name > ''"
_ITS_OWN = "({0}.consumer IS NULL OR EXISTS (SELECT 1 FROM consumer c WHERE c.id = {0}.consumer AND c.queue = q.id))"
# What stands for the columns of a table that are not its own, and which of its rows are not gone already.
_PARTS: Final[dict[str, tuple[dict[str, str], str]]] = {
    "queue": ({}, "queue t WHERE t.name > ''"),
    "consumer": ({}, f"consumer t {_LIVING.format('t')}"),
    "message": (
        {"record": MESSAGE_RECORD.replace("m.", "t.")},
        f"message t {_LIVING.format('t')} WHERE t.position > q.floor AND {_ITS_OWN.format('t')}",
    ),
    "scheduled": (
        {},
        f"scheduled t {_LIVING.format('t')} WHERE t.number > q.scheduled_floor AND {_ITS_OWN.format('t')}",
    ),
    "outstanding": (
        {"consumer": "owner.id"},
        "outstanding t JOIN consumer owner ON coalesce(owner.ledger, owner.id) = t.consumer AND owner.queue > 0 "
        f"{_LIVING.format('owner')} WHERE t.position > q.floor",
    ),
    "dead_letter": ({}, f"dead_letter t {_LIVING.format('t')} WHERE {_ITS_OWN.format('t')}"),
    "settled": ({}, f"settled t {_LIVING.format('t')}"),
    "deduplication": ({}, f"deduplication t {_LIVING.format('t')}"),
    "schedule": ({}, "schedule t"),
    "answer": ({"record": record_of("t")}, "answer t"),
}


class FileReading:
    """A file that is read; see `waypost.storage.copying.records.Reading`.

    Args:
        connection: A connection to it, within a transaction.
        orphan_ttl_s: Seconds for which a session is kept that a crash left attached.
    """

    def __init__(self, connection: sqlite3.Connection, orphan_ttl_s: float) -> None:
        self._connection = connection
        self._orphan_ttl_s = orphan_ttl_s
        ((ahead_s,),) = connection.execute("SELECT ahead_s FROM opening").fetchall()
        self._now = time.time() + float(ahead_s)
        self._entries = Appender(connection)

    async def journals(self) -> AsyncIterator[JournalCopy]:
        """Read the journals."""
        for number, name, generation, oldest in self._all("SELECT id, name, generation, oldest FROM journal"):
            top, total = self._entries.top(number), self._entries.total_bytes(number)
            earlier = self._all("SELECT name, ended FROM generation WHERE journal = ? ORDER BY id", number)
            before = bytes_before(self._connection, number, oldest, total)
            yield JournalCopy(number, name, (*map(tuple, earlier), (generation, top)), oldest, top, before)

    async def entries(self, journal: JournalCopy) -> AsyncIterator[list[tuple[bytes, float]]]:
        """Read the entries of a journal."""
        after = journal.oldest - 1
        while after < journal.top:
            found = read_entries(self._connection, journal.number, after, journal.top, _ROWS, _ENTRY_BYTES)
            times = self._all(
                "SELECT first, at FROM chunk WHERE journal = ? AND first <= ? ORDER BY first DESC LIMIT ?",
                *(journal.number, found[-1].position, _ROWS + 1),
            )
            yield [
                (entry.record, next(self._now - at for first, at in times if first <= entry.position))
                for entry in found
            ]
            after = found[-1].position

    async def sessions(self, journal: JournalCopy) -> AsyncIterator[SessionCopy]:
        """Read the sessions of a journal."""
        columns = "s.id, key, sid, start, proven, last, data, expires_at, stuck_at, stuck_times, room, since, until"
        found = self._connection.execute(
            f"SELECT {columns} FROM session s LEFT JOIN membership m ON m.session = s.id WHERE s.journal = ? "
            "ORDER BY s.id, since",
            (journal.number,),
        )
        for _, rows in groupby(found, key=lambda row: row[0]):
            its = [*rows]
            _, key, sid, start, proven, last, data, expires_at, stuck_at, stuck_times = its[0][:10]
            left_s = self._orphan_ttl_s if expires_at is None else expires_at - self._now
            rooms = tuple([row[10:] for row in its if row[10] is not None])
            yield SessionCopy(key, sid, start, proven, last, data, left_s, stuck_at, stuck_times, rooms)

    async def tombstones(self, journal: JournalCopy) -> AsyncIterator[Tombstone]:
        """Read what is left of sessions that have ended."""
        query = "SELECT key, sid, expired_at FROM tombstone WHERE journal = ?"
        for key, sid, expired_at in self._all(query, journal.number):
            yield Tombstone(key, sid, self._now - expired_at)

    async def emitted(self, journal: JournalCopy) -> AsyncIterator[tuple[str, float]]:
        """Read the ids of events of other programs."""
        for name, until in self._all("SELECT id, until FROM deduplication WHERE queue = ?", -journal.number):
            yield name, until - self._now

    async def rows(self, table: Table) -> AsyncIterator[list[Row]]:
        """Read a table."""
        own, source = _PARTS[table.name]
        columns = ", ".join(own.get(one.name, f"t.{one.name}") for one in table.columns)
        cursor = self._connection.execute(f"SELECT {columns} FROM {source}")
        while found := cursor.fetchmany(_ROWS):
            yield [convert(table, row, -self._now, str) for row in found]

    def _all(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, values).fetchall()


async def finish_work(path: Path) -> None:
    """Let a file be of this version, and have nothing in its outbox.

    Raises:
        StoreBusy: A server has it open.
        StorageError: It can't be opened or written.
    """
    store = SqliteStore(path)
    await store.open()
    try:
        await store.release_due()
    finally:
        await store.close()


def _sweep(connection: sqlite3.Connection) -> None:
    """Remove what is gone already, so that each row that is left counts."""
    prepare(connection)
    keeping.add_functions(connection, QueueLimits().keep_settled_s, time.time)
    transaction = Transaction(connection, Appender(connection), time.time())
    taken = 1
    while taken:
        connection.execute("BEGIN IMMEDIATE")
        taken = sweep(transaction)
        connection.execute("COMMIT")


@contextmanager
def reading_file(path: Path, orphan_ttl_s: float) -> Iterator[FileReading]:
    """Own a file while it is read.

    Raises:
        StoreBusy: A server has it open.
    """
    owner = take_ownership(path)
    try:
        connection = open_database(path)
        try:
            _sweep(connection)
            connection.execute("BEGIN")
            yield FileReading(connection, orphan_ttl_s)
        finally:
            connection.close()
    finally:
        owner.close()
