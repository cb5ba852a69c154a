"""Writes a copied store into a new SQLite file."""

from __future__ import annotations

import sqlite3
import time
from typing import Any, Final

from waypost.storage.copying.records import JournalCopy, Reading, Row, Table, convert
from waypost.storage.sqlite.bodies import LARGE_BYTES, keep_body
from waypost.storage.sqlite.journals.entries import Appender
from waypost.storage.sqlite.queues.rows import MESSAGE_COLUMNS, Content, message_row
from waypost.storage.sqlite.sums import answer_sum, message_sum, session_sum, values_sum

__all__ = ["FileWriting"]

_PLAIN: Final = frozenset({"queue", "consumer", "outstanding", "settled", "deduplication", "schedule"})


class FileWriting:
    """A file that is written; see `waypost.storage.copying.records.Writing`.

    Args:
        connection: A connection to a file with the tables and nothing in them, within a transaction.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._entries = Appender(connection)
        ((ahead_s,),) = connection.execute("SELECT ahead_s FROM opening").fetchall()
        self._now = time.time() + float(ahead_s)

    async def journal(self, journal: JournalCopy, reading: Reading) -> int:
        """Write a journal, with all that belongs to it."""
        *earlier, (generation, _) = journal.generations
        number = self._connection.execute(
            "INSERT INTO journal (name, generation, oldest, top, bytes) VALUES (?, ?, ?, ?, ?)",
            (journal.name, generation, journal.oldest, journal.oldest - 1, journal.before),
        ).lastrowid
        assert number is not None
        self._connection.executemany(
            "INSERT INTO generation (journal, name, ended) VALUES (?, ?, ?)",
            [(number, name, ended) for name, ended in earlier],
        )
        written = await self._write_entries(number, journal, reading)
        self._connection.execute(
            "UPDATE journal SET top = ?, bytes = ? WHERE id = ?",
            (journal.top, self._entries.total_bytes(number), number),
        )
        async for name, left_s in reading.emitted(journal):
            values = (-number, name, 0, self._now, self._now + left_s)
            self._connection.execute("INSERT INTO deduplication VALUES (?, ?, ?, ?, ?)", values)
        async for stone in reading.tombstones(journal):
            self._connection.execute(
                "INSERT INTO tombstone (journal, key, sid, expired_at) VALUES (?, ?, ?, ?)",
                (number, stone.key, stone.sid, self._now - stone.ago_s),
            )
        return written + await self._write_sessions(number, journal, reading)

    async def _write_entries(self, number: int, journal: JournalCopy, reading: Reading) -> int:
        written, at = 0, -1.0
        async for entries in reading.entries(journal):
            for record, ago_s in entries:
                # What was appended together has one time, and is one row.
                if ago_s != at:
                    self._entries.flush()
                    self._entries.begin(self._now - ago_s)
                    at = ago_s
                self._entries.append(number, record)
                written += 1
        self._entries.flush()
        return written

    async def _write_sessions(self, number: int, journal: JournalCopy, reading: Reading) -> int:
        written = 0
        async for one in reading.sessions(journal):
            written += 1
            marks = values_sum(one.sid, one.start, one.proven, one.last)
            session = self._connection.execute(
                "INSERT INTO session (journal, key, sid, start, proven, last, data, expires_at, sum, marks, "
                "stuck_at, stuck_times) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(number, one.key, one.sid, one.start, one.proven, one.last, one.data, self._now + one.left_s),
                    *(session_sum(one.key, one.data), marks, one.stuck_at, one.stuck_times),
                ),
            ).lastrowid
            assert session is not None
            self._connection.executemany(
                "INSERT INTO membership (session, room, since, until, journal, sum) VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (session, room, since, until, number, values_sum(session, room, since, until))
                    for room, since, until in one.rooms
                ],
            )
        return written

    async def rows(self, table: Table, rows: list[Row]) -> None:
        """Write rows of a table."""
        names = [column.name for column in table.columns]
        converted = [convert(table, row, self._now, str) for row in rows]
        if table.name in _PLAIN:
            self._insert(table.name, names, converted)
            return
        for values in converted:
            self._insert_content(table.name, dict(zip(names, values, strict=True)))

    def _insert_content(self, table: str, row: dict[str, Any]) -> None:
        if table == "answer":
            row["sum"] = answer_sum(row["client"], row["message"], row["record"])
            if len(row["record"]) > LARGE_BYTES:
                row |= {"size": len(row["record"]), "body": keep_body(self._connection, row["record"]), "record": b""}
            self._insert(table, [*row], [tuple(row.values())])
            return
        content = Content(*(row.pop(name) for name in Content._fields))
        if content.sum is None:
            content = content._replace(sum=message_sum(*content[:3], content.record))
        if table == "message":
            place = (row["queue"], row["position"], row["enqueued_at"], row["expires_at"])
            names = [*MESSAGE_COLUMNS.split(", "), "consumer", "history"]
            values = (*message_row(self._connection, place, content), row["consumer"], row["history"])
            self._insert(table, names, [values])
        else:
            row |= content._asdict()
            self._insert(table, [*row], [tuple(row.values())])

    def _insert(self, table: str, names: list[str], rows: list[Row]) -> None:
        marks = ", ".join("?" * len(names))
        self._connection.executemany(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})", rows)

    async def finish(self) -> None:
        """Commit."""
        self._connection.execute("COMMIT")
