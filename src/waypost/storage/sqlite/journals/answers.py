"""Answers in the store's file; see `waypost.storage.answer_base`."""

from __future__ import annotations

import sqlite3

from waypost.storage.answer_base import (
    ANSWER_OVERHEAD_BYTES,
    MAX_ANSWERS_PER_CLIENT,
    UNCOUNTED,
    Answer,
    AnswerGivenUp,
    AnswerLimits,
)
from waypost.storage.sqlite.bodies import LARGE_BYTES, keep_body, record_of
from waypost.storage.sqlite.jobs import Transaction
from waypost.storage.sqlite.reader import Reader
from waypost.storage.sqlite.steps import repeat
from waypost.storage.sqlite.sums import answer_sum
from waypost.storage.sqlite.writer import Writer

__all__ = ["SqliteAnswers"]

# One step is one job between others.
_TRIM_ANSWERS = 1_000
_GIVEN_UP_AT_ONCE = 64
_TOTAL = "total"
_RECORD = record_of("a")


class SqliteAnswers:
    """The answers in an open file.

    Args:
        writer: Writes to the file.
        reader: Reads from it.
        ttl_s: For how long an answer is kept, in seconds.
        limits: How many bytes of answers are kept.
    """

    __slots__ = ("_limits", "_reader", "_ttl_s", "_writer")

    def __init__(self, writer: Writer, reader: Reader, ttl_s: float, limits: AnswerLimits) -> None:
        self._writer = writer
        self._reader = reader
        self._ttl_s = ttl_s
        self._limits = limits

    async def find(self, client: bytes, sequence: int, message: str) -> bytes | None:
        """Return the answer to a client's message."""

        def query(connection: sqlite3.Connection) -> bytes | None:
            rows = connection.execute(
                f"SELECT {_RECORD}, given_up, sum FROM answer a WHERE client = ? AND sequence = ? AND message = ?",
                (client, sequence, message),
            ).fetchall()
            if not rows:
                return None
            record, given_up, kept_sum = rows[0]
            is_damaged = record is None or kept_sum not in (None, answer_sum(client, message, record))
            if given_up or is_damaged:
                raise AnswerGivenUp(message)
            return bytes(record)

        return await self._reader.run(query)

    async def keep(self, answer: Answer, settled: int) -> None:
        """Store an answer, and remove those that the client has confirmed."""
        self._writer.check_size(len(answer.record))
        kept_sum = answer_sum(answer.client, answer.message, answer.record)

        def work(tx: Transaction) -> None:
            name = (answer.client, answer.sequence, answer.message)
            # Not INSERT OR REPLACE, which would not run the trigger of what it replaces.
            tx.connection.execute("DELETE FROM answer WHERE client = ? AND sequence = ? AND message = ?", name)
            record, size, body = answer.record, None, None
            if len(record) > LARGE_BYTES:
                record, size, body = b"", len(record), keep_body(tx.connection, record)
            tx.connection.execute(
                "INSERT INTO answer (client, sequence, message, at, account, record, sum, size, body) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*name, tx.now, answer.account, record, kept_sum, size, body),
            )
            tx.connection.execute("DELETE FROM answer WHERE client = ? AND sequence <= ?", (answer.client, settled))
            tx.connection.execute(
                "DELETE FROM answer WHERE client = ?1 AND (sequence, message) <= (SELECT sequence, message "
                "FROM answer WHERE client = ?1 ORDER BY sequence DESC, message DESC LIMIT 1 OFFSET ?2)",
                (answer.client, MAX_ANSWERS_PER_CLIENT),
            )
            _keep_within(tx.connection, answer.account, self._limits)

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


def _keep_within(connection: sqlite3.Connection, account: str, limits: AnswerLimits) -> None:
    """Give up answers until an account, and all together, are within their limits."""
    if account != UNCOUNTED:
        while (excess := _use(connection, account) - limits.account_bytes) > 0:
            _free(connection, account, excess)
    while (excess := _use(connection, _TOTAL) - limits.total_bytes) > 0:
        ((largest,),) = connection.execute(
            "SELECT account FROM answer_use WHERE account <> ? ORDER BY bytes DESC LIMIT 1", (_TOTAL,)
        ).fetchall()
        _free(connection, largest, excess)


def _use(connection: sqlite3.Connection, account: str) -> int:
    rows = connection.execute("SELECT bytes FROM answer_use WHERE account = ?", (account,)).fetchall()
    return int(rows[0][0]) if rows else 0


def _free(connection: sqlite3.Connection, account: str, excess: int) -> None:
    """Give up some of an account's oldest answers, then forget the oldest that were given up."""
    rows = connection.execute(
        "SELECT client, sequence, message, given_up, coalesce(size, length(record)) FROM answer WHERE account = ? "
        "ORDER BY given_up, at, sequence LIMIT ?",
        (account, _GIVEN_UP_AT_ONCE),
    ).fetchall()
    for client, sequence, message, given_up, size in rows:
        if excess <= 0:
            return
        where = "WHERE client = ? AND sequence = ? AND message = ?"
        if given_up:
            connection.execute(f"DELETE FROM answer {where}", (client, sequence, message))
            excess -= ANSWER_OVERHEAD_BYTES
        else:
            connection.execute(
                f"UPDATE answer SET given_up = 1, record = x'', size = NULL, body = NULL {where}",
                (client, sequence, message),
            )
            excess -= size
