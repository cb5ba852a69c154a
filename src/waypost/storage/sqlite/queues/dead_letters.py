"""Dead letters on disk: found by a filter, made messages again, forgotten."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from dataclasses import replace
from typing import Any

from waypost.storage.queue_records import DeadLetterFilter, DeadLetterRow, Redriven
from waypost.storage.sqlite.jobs import Transaction
from waypost.storage.sqlite.queues.enqueue import append_for, schedule
from waypost.storage.sqlite.queues.rows import Content, is_damaged
from waypost.storage.sqlite.queues.settle import unpack_history

__all__ = ["discard", "read", "redrive"]

_LETTER = (
    "d.number, c.name, d.position, d.id, d.record, d.key, d.enqueued_at, d.died_at, d.reason, d.failures, d.losses, "
    "d.history, d.headers, d.exception, d.sum"
)
_FROM = "FROM queue q JOIN dead_letter d ON d.queue = q.id JOIN consumer c ON c.id = d.consumer AND c.queue = q.id"


def read(
    connection: sqlite3.Connection,
    queue: str,
    matching: DeadLetterFilter,
    after: int,
    max_letters: int,
    max_bytes: int,
) -> list[DeadLetterRow]:
    """Read dead letters by number, within limits."""
    condition, values = _condition(queue, matching)
    letters: list[DeadLetterRow] = []
    size = 0
    for row in connection.execute(
        f"SELECT {_LETTER} {_FROM} WHERE {condition} AND d.number > ? ORDER BY d.number LIMIT ?",
        (*values, after, max_letters),
    ):
        letter = _letter(*row)
        size += len(letter.record)
        if letters and size > max_bytes:
            break
        letters.append(letter)
    return letters


def redrive(
    tx: Transaction,
    queue: str,
    matching: DeadLetterFilter,
    after: int,
    upto: int | None,
    max_letters: int,
    spacing_s: float,
    first_at: float,
) -> Redriven:
    """Make dead letters messages again."""
    ((newest,),) = tx.connection.execute(
        "SELECT coalesce(max(number), 0) FROM dead_letter WHERE queue = (SELECT id FROM queue WHERE name = ?)",
        (queue,),
    ).fetchall()
    condition, values = _condition(queue, matching)
    rows = tx.connection.execute(
        "SELECT d.number, d.queue, d.consumer, d.history, d.id, d.key, d.headers, d.sum, d.record "
        f"{_FROM} WHERE {condition} "
        "AND d.number > ? AND d.number <= ? ORDER BY d.number LIMIT ?",
        (*values, after, newest if upto is None else upto, max_letters),
    ).fetchall()
    next_due_at: float | None = None
    for index, (_, number, consumer, history, *columns) in enumerate(rows):
        due_at, content = first_at + index * spacing_s, Content(*columns)
        if due_at <= tx.now:
            append_for(tx, number, consumer, None, history, content)
            tx.connection.execute("UPDATE queue SET bytes = bytes + ? WHERE id = ?", (content.size, number))
            continue
        schedule(tx.connection, number, due_at, None, content, consumer=consumer, history=history)
        tx.connection.execute(
            "UPDATE queue SET delayed = delayed + 1, bytes = bytes + ? WHERE id = ?", (content.size, number)
        )
        next_due_at = due_at if next_due_at is None else next_due_at
    _forget(tx, [row[:3] for row in rows])
    return Redriven(len(rows), rows[-1][0] if rows else 0, newest, next_due_at)


def discard(tx: Transaction, queue: str, matching: DeadLetterFilter, max_letters: int) -> int:
    """Forget dead letters; returns how many, 0 if no more are there."""
    condition, values = _condition(queue, matching)
    rows = tx.connection.execute(
        f"SELECT d.number, d.queue, d.consumer {_FROM} WHERE {condition} LIMIT ?", (*values, max_letters)
    ).fetchall()
    _forget(tx, rows)
    return len(rows)


def _letter(*row: Any) -> DeadLetterRow:
    """Return a dead letter as it was read."""
    *_, history, _, _, kept_sum = row
    letter = DeadLetterRow(*row[:-1])
    damaged = is_damaged(Content(letter.id, letter.key, letter.headers, kept_sum, letter.record))
    return replace(letter, history=unpack_history(history), damaged=damaged)


def _forget(tx: Transaction, rows: list[tuple[int, int, int]]) -> None:
    tx.connection.executemany("DELETE FROM dead_letter WHERE number = ?", [(number,) for number, _, _ in rows])
    queues, consumers = Counter(queue for _, queue, _ in rows), Counter(consumer for _, _, consumer in rows)
    for table, counted in (("queue", queues), ("consumer", consumers)):
        tx.connection.executemany(
            f"UPDATE {table} SET dead = dead - ? WHERE id = ?", [(count, number) for number, count in counted.items()]
        )


def _condition(queue: str, matching: DeadLetterFilter) -> tuple[str, list[object]]:
    """Return a filter as SQL and its values."""
    numbers = None if matching.numbers is None else json.dumps([*matching.numbers])
    parts: list[tuple[str, object]] = [
        ("q.name = ?", queue),
        ("c.name = ?", matching.consumer),
        ("d.number IN (SELECT value FROM json_each(?))", numbers),
        ("d.id = ?", matching.id),
        ("d.key = ?", matching.key),
        ("instr(d.reason, ?) > 0", matching.reason),
        ("d.died_at >= ?", matching.died_after),
        ("d.died_at < ?", matching.died_before),
    ]
    wanted = [(sql, value) for sql, value in parts if value is not None]
    return " AND ".join(sql for sql, _ in wanted), [value for _, value in wanted]
