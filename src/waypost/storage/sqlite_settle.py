"""What a consumer has settled, on disk: a cursor, and runs beyond it.

The work does not grow with the backlog.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

__all__ = ["Consumer", "Run", "runs_between", "settle_run"]


@dataclass(frozen=True, slots=True)
class Consumer:
    """A consumer as it is in the file.

    Attributes:
        id: Its number.
        queue: Its queue's number.
        name: Its name.
        top: Its queue's newest position.
        cursor: All up to here is settled.
        ahead: How many are settled beyond it.
    """

    id: int
    queue: int
    name: str
    top: int
    cursor: int
    ahead: int


class Run(NamedTuple):
    """Positions without a hole, from ``first`` to ``last``."""

    first: int
    last: int


def runs_between(connection: sqlite3.Connection, consumer: int, after: int, upto: int) -> Iterator[Run]:
    """Find, one by one, the runs settled beyond a cursor that reach into ``(after, upto]``, in order."""
    rows = connection.execute(
        "SELECT first, last FROM settled WHERE consumer = ?1 AND first <= ?3 AND first >= coalesce("
        "(SELECT max(first) FROM settled WHERE consumer = ?1 AND first <= ?2 + 1), ?2 + 1) ORDER BY first",
        (consumer, after, upto),
    )
    for first, last in rows:
        if last > after:
            yield Run(first, last)


def settle_run(connection: sqlite3.Connection, consumer: Consumer, run: Run) -> Consumer:
    """Mark a run of positions as settled for a consumer, and remove what all consumers have settled.

    Returns:
        The consumer as it is then.
    """
    run = Run(max(run.first, consumer.cursor + 1), min(run.last, consumer.top))
    if run.first > run.last:
        return consumer
    # With those that only touch it, to be one run with them.
    known = []
    if consumer.ahead:
        known = list(runs_between(connection, consumer.id, run.first - 2, run.last + 1))
    fresh = _without(run, known)
    if not fresh:
        return consumer
    merged = (
        Run(min(run.first, *(one.first for one in known)), max(run.last, *(one.last for one in known)))
        if known
        else run
    )
    if known:
        connection.execute(
            "DELETE FROM settled WHERE consumer = ? AND first BETWEEN ? AND ?",
            (consumer.id, merged.first, merged.last),
        )
    if merged.first == consumer.cursor + 1:
        were_ahead = sum(one.last - one.first + 1 for one in known)
        consumer = replace(consumer, cursor=merged.last, ahead=consumer.ahead - were_ahead)
    else:
        connection.execute("INSERT INTO settled (consumer, first, last) VALUES (?, ?, ?)", (consumer.id, *merged))
        settled = sum(one.last - one.first + 1 for one in fresh)
        consumer = replace(consumer, ahead=consumer.ahead + settled)
    connection.execute(
        "UPDATE consumer SET cursor = ?, ahead = ? WHERE id = ?",
        (consumer.cursor, consumer.ahead, consumer.id),
    )
    for one in fresh:
        connection.execute(
            "DELETE FROM delivery WHERE consumer = ? AND position BETWEEN ? AND ?", (consumer.id, *one)
        )
        _remove_settled(connection, consumer, one)
    return consumer


def _without(run: Run, known: list[Run]) -> list[Run]:
    """Return what of a run is in none of the known ones, which are in order."""
    fresh: list[Run] = []
    position = run.first
    for one in known:
        if one.first > position:
            fresh.append(Run(position, min(one.first - 1, run.last)))
        position = max(position, one.last + 1)
    if position <= run.last:
        fresh.append(Run(position, run.last))
    return fresh


def _remove_settled(connection: sqlite3.Connection, consumer: Consumer, run: Run) -> None:
    """Remove the messages of a run, just settled by one consumer, that all others have settled too."""
    others = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM consumer WHERE queue = ? AND id <> ? AND cursor < ?)",
        (consumer.queue, consumer.id, run.last),
    ).fetchall()
    if not others[0][0]:
        _remove(connection, consumer.queue, run)
        return
    for position in range(run.first, run.last + 1):
        # The slowest come first; a consumer that has not settled it ends the search.
        wanted = connection.execute(
            "SELECT EXISTS (SELECT 1 FROM consumer c WHERE c.queue = ?1 AND c.cursor < ?2 AND coalesce("
            "(SELECT last FROM settled WHERE consumer = c.id AND first <= ?2 "
            "ORDER BY first DESC LIMIT 1), 0) < ?2 ORDER BY c.cursor)",
            (consumer.queue, position),
        ).fetchall()
        if not wanted[0][0]:
            _remove(connection, consumer.queue, Run(position, position))


def _remove(connection: sqlite3.Connection, queue: int, run: Run) -> None:
    sizes = connection.execute(
        "DELETE FROM message WHERE queue = ? AND position BETWEEN ? AND ? RETURNING length(record)",
        (queue, *run),
    ).fetchall()
    connection.execute(
        "UPDATE queue SET messages = messages - ?, bytes = bytes - ? WHERE id = ?",
        (len(sizes), sum(size for (size,) in sizes), queue),
    )
