"""Ends the time of messages that were kept after all had settled them: when it is over, or a queue needs the room."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from waypost.storage.sqlite.bodies import MESSAGE_SIZE
from waypost.storage.sqlite.jobs import Transaction
from waypost.storage.sqlite.queues.removal import end_unwanted, unwanted_between

__all__ = ["end_kept", "free_kept"]

# One step is one job between others.
_STEP = 500


class _Run(NamedTuple):
    queue: int
    first: int
    at: float
    last: int


def end_kept(tx: Transaction) -> int:
    """Remove some messages that were kept for long enough; returns 0 if no more are there."""
    rows = tx.connection.execute(
        "SELECT s.queue, s.first, s.at, s.last FROM settled s LEFT JOIN queue q ON q.id = s.queue "
        "WHERE q.id IS NULL OR s.at <= ? - coalesce(q.keep_settled_s, default_keep_settled_s()) "
        "ORDER BY s.at LIMIT 1",
        (tx.now,),
    ).fetchall()
    for run in rows:
        _end_part(tx.connection, _Run(*run))
    return len(rows)


def _end_part(connection: sqlite3.Connection, run: _Run) -> None:
    """Remove some of a run's messages; those that a consumer wants again, or that were settled later, stay."""
    positions = [
        position
        for (position,) in connection.execute(
            "SELECT position FROM message WHERE queue = ?1 AND position BETWEEN ?2 AND ?3 "
            "AND position > (SELECT floor FROM queue WHERE id = ?1) ORDER BY position LIMIT ?4",
            (run.queue, run.first, run.last, _STEP),
        )
    ]
    end_unwanted(connection, run.queue, positions, settled_at=run.at)
    _begin_at(connection, run, positions[-1] + 1 if len(positions) == _STEP else run.last + 1)


def free_kept(connection: sqlite3.Connection, queue: int, messages: int, size: int) -> None:
    """Remove as many kept messages as it takes for so many more messages and bytes, the oldest first."""
    while messages > 0 or size > 0:
        runs = connection.execute(
            "SELECT queue, first, at, last FROM settled WHERE queue = ? ORDER BY first LIMIT 1", (queue,)
        ).fetchall()
        if not runs:
            return
        run = _Run(*runs[0])
        found = unwanted_between(connection, queue, run.first, run.last, MESSAGE_SIZE, _STEP)
        chosen: list[int] = []
        for position, freed in found:
            if messages <= 0 and size <= 0:
                break
            chosen.append(position)
            messages -= 1
            size -= freed
        end_unwanted(connection, queue, chosen)
        is_whole = len(chosen) == len(found) < _STEP
        _begin_at(connection, run, run.last + 1 if is_whole else chosen[-1] + 1)


def _begin_at(connection: sqlite3.Connection, run: _Run, first: int) -> None:
    """Let a run begin later, or end it."""
    connection.execute("DELETE FROM settled WHERE queue = ? AND first = ? AND at = ?", (run.queue, run.first, run.at))
    if first <= run.last:
        connection.execute(
            "INSERT INTO settled (queue, first, at, last) VALUES (?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET last = max(last, excluded.last)",
            (run.queue, first, run.at, run.last),
        )
