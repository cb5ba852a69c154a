"""Answers in the store's file; see `waypost.storage.answer_base`."""

from __future__ import annotations

import sqlite3

from waypost.storage.answer_base import MAX_ANSWERS_PER_CLIENT, Answer
from waypost.storage.sqlite.jobs import Transaction
from waypost.storage.sqlite.reader import Reader
from waypost.storage.sqlite.tasks import repeat
from waypost.storage.sqlite.writer import Writer

__all__ = ["SqliteAnswers"]

# One step is one job between others.
_TRIM_ANSWERS = 1_000


class SqliteAnswers:
    """The answers in an open file.

    Args:
        writer: Writes to the file.
        reader: Reads from it.
        ttl_s: For how long an answer is kept, in seconds.
    """

    __slots__ = ("_reader", "_ttl_s", "_writer")

    def __init__(self, writer: Writer, reader: Reader, ttl_s: float) -> None:
        self._writer = writer
        self._reader = reader
        self._ttl_s = ttl_s

    async def find(self, client: bytes, sequence: int, message: str) -> bytes | None:
        """Return the answer to a client's message."""

        def query(connection: sqlite3.Connection) -> bytes | None:
            rows = connection.execute(
                "SELECT record FROM answer WHERE client = ? AND sequence = ? AND message = ?",
                (client, sequence, message),
            ).fetchall()
            return bytes(rows[0][0]) if rows else None

        return await self._reader.run(query)

    async def keep(self, answer: Answer, settled: int) -> None:
        """Store an answer, and remove those that the client has confirmed."""
        self._writer.check_size(len(answer.record))

        def work(tx: Transaction) -> None:
            tx.connection.execute(
                "INSERT OR REPLACE INTO answer (client, sequence, message, at, record) VALUES (?, ?, ?, ?, ?)",
                (answer.client, answer.sequence, answer.message, tx.now, answer.record),
            )
            tx.connection.execute("DELETE FROM answer WHERE client = ? AND sequence <= ?", (answer.client, settled))
            tx.connection.execute(
                "DELETE FROM answer WHERE client = ?1 AND (sequence, message) <= (SELECT sequence, message "
                "FROM answer WHERE client = ?1 ORDER BY sequence DESC, message DESC LIMIT 1 OFFSET ?2)",
                (answer.client, MAX_ANSWERS_PER_CLIENT),
            )

        await self._writer.submit(work)

    async def trim(self) -> None:
        """Remove answers that are too old."""

        def step(tx: Transaction) -> int:
            rows = tx.connection.execute(
                "SELECT client, sequence, message FROM answer WHERE at < ? LIMIT ?",
                (tx.now - self._ttl_s, _TRIM_ANSWERS),
            ).fetchall()
            tx.connection.executemany("DELETE FROM answer WHERE client = ? AND sequence = ? AND message = ?", rows)
            return len(rows)

        await repeat(self._writer, step)
