"""Messages that every consumer has settled and that their queue keeps for a while: noted as runs of positions."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from math import ceil

__all__ = ["add_functions", "keep", "keep_run", "keep_s"]

_GRAINS = 100
_SHORTEST_GRAIN_S = 1.0


def add_functions(connection: sqlite3.Connection, default_s: float, now: Callable[[], float]) -> None:
    """Let the writer's statements know for how long a queue keeps messages by default, and the time."""
    connection.create_function("default_keep_settled_s", 0, lambda: default_s)
    connection.create_function("store_now", 0, now)


def keep_s(connection: sqlite3.Connection, queue: int) -> float:
    """Return for how many seconds a queue keeps settled messages; 0 if it does not."""
    rows = connection.execute(
        "SELECT coalesce(keep_settled_s, default_keep_settled_s()) FROM queue WHERE id = ?", (queue,)
    ).fetchall()
    return float(rows[0][0]) if rows else 0.0


def keep(connection: sqlite3.Connection, queue: int, positions: Iterable[int], seconds: float) -> None:
    """Note messages as settled now, to be kept for some seconds.

    Args:
        connection: The writer's connection.
        queue: The queue's number.
        positions: The positions, in order.
        seconds: For how long the queue keeps them.
    """
    for first, last in _runs(positions):
        keep_run(connection, queue, first, last, seconds)


def keep_run(connection: sqlite3.Connection, queue: int, first: int, last: int, seconds: float) -> None:
    """Note a run of positions as settled now. What a consumer still wants of it stays when its time is over."""
    # Rounded up to a part of the time, so that runs that follow each other are one row.
    grain = max(_SHORTEST_GRAIN_S, seconds / _GRAINS)
    ((now,),) = connection.execute("SELECT store_now()").fetchall()
    at = ceil(now / grain) * grain
    is_continued = connection.execute(
        "UPDATE settled SET last = ?1 WHERE queue = ?2 AND at = ?3 AND last = ?4 - 1 "
        "AND first = (SELECT max(first) FROM settled WHERE queue = ?2 AND first < ?4)",
        (last, queue, at, first),
    ).rowcount
    if not is_continued:
        connection.execute(
            "INSERT INTO settled (queue, first, at, last) VALUES (?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET last = max(last, excluded.last)",
            (queue, first, at, last),
        )


def _runs(positions: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Return the first and the last position of each run without a gap."""
    first = last = None
    for position in positions:
        if first is None or last is None or position != last + 1:
            if first is not None and last is not None:
                yield first, last
            first = position
        last = position
    if first is not None and last is not None:
        yield first, last
