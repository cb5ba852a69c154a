"""Removes in steps the rows of what is gone already: of messages that ended, consumers that left or were moved.

Each step is a short job of the writer between others. What is left is in the file, so that it goes on after a kill.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection

from waypost.storage.sqlite.bodies import SCHEDULED_SIZE
from waypost.storage.sqlite.jobs import Transaction
from waypost.storage.sqlite.queues.removal import remove_unwanted

__all__ = ["sweep", "sweep_soon"]

_STEP = 250
_STEPS_AT_ONCE = 8
_COLUMNS = "kind, id, queue, consumer, position, upto"
# The sweep's number, queue, consumer, position and end.
_Sweep = tuple[int, int, int | None, int, int]


def sweep(tx: Transaction, held_back: Collection[str] = ()) -> int:
    """Do a step of what is left to be done; returns how many rows it took, 0 if nothing is left.

    Args:
        tx: The transaction.
        held_back: The queues of which messages are being counted, so that none may go one by one just now.
    """
    rows = tx.connection.execute(
        f"SELECT {_COLUMNS} FROM sweep WHERE kind NOT IN ('between', 'ledger') OR queue NOT IN "
        "(SELECT id FROM queue WHERE name IN (SELECT value FROM json_each(?))) ORDER BY id LIMIT 1",
        (json.dumps([*held_back]),),
    ).fetchall()
    for row in rows:
        return max(_step(tx.connection, row), 1)
    return 0


def sweep_soon(connection: sqlite3.Connection, queue: int) -> None:
    """Do what was just left to be done, as far as it is little enough for the same commit."""
    for _ in range(_STEPS_AT_ONCE):
        rows = connection.execute(
            f"SELECT {_COLUMNS} FROM sweep WHERE queue = ? ORDER BY id DESC LIMIT 1", (queue,)
        ).fetchall()
        if not rows or rows[0][-1] - rows[0][-2] > _STEP * _STEPS_AT_ONCE:
            return
        _step(connection, rows[0])


def _step(connection: sqlite3.Connection, row: tuple[str, int, int, int | None, int, int]) -> int:
    kind, number, queue, consumer, position, upto = row
    done = _KINDS[kind](connection, (number, queue, consumer, position, upto))
    if not done:
        connection.execute("DELETE FROM sweep WHERE id = ?", (number,))
    return done


def _sweep_floor(connection: sqlite3.Connection, left: _Sweep) -> int:
    """Remove messages up to the queue's floor, and what is outstanding of them."""
    _, queue, _, _, upto = left
    for table in ("outstanding", "message"):
        last: int | None
        ((last,),) = connection.execute(
            f"SELECT max(position) FROM (SELECT position FROM {table} WHERE queue = ?1 AND position <= ?2 "
            "AND position <= (SELECT floor FROM queue WHERE id = ?1) ORDER BY position LIMIT ?3)",
            (queue, upto, _STEP),
        ).fetchall()
        if last is not None:
            return connection.execute(
                f"DELETE FROM {table} WHERE queue = ? AND position <= ?", (queue, last)
            ).rowcount
    return 0


def _sweep_scheduled(connection: sqlite3.Connection, left: _Sweep) -> int:
    """Remove messages that were purged before they were due."""
    _, queue, _, _, upto = left
    return connection.execute(
        "DELETE FROM scheduled WHERE number IN "
        "(SELECT number FROM scheduled WHERE queue = ? AND number <= ? LIMIT ?)",
        (queue, upto, _STEP),
    ).rowcount


def _sweep_ledger(connection: sqlite3.Connection, left: _Sweep) -> int:
    """Remove what was outstanding at a consumer before it was moved or went, and what nobody wants without it."""
    _, queue, ledger, _, _ = left
    rows = connection.execute(
        "SELECT position FROM outstanding WHERE consumer = ? ORDER BY position LIMIT ?", (ledger, _STEP)
    ).fetchall()
    if rows:
        last = rows[-1][0]
        connection.execute("DELETE FROM outstanding WHERE consumer = ? AND position <= ?", (ledger, last))
        _remove_unwanted(connection, queue, [position for (position,) in rows])
    return len(rows)


def _sweep_between(connection: sqlite3.Connection, left: _Sweep) -> int:
    """Remove the messages between two positions that nobody wants any more."""
    number, queue, _, after, upto = left
    rows = connection.execute(
        "SELECT position FROM message WHERE queue = ? AND position > ? AND position <= ? ORDER BY position LIMIT ?",
        (queue, after, upto, _STEP),
    ).fetchall()
    if rows:
        _remove_unwanted(connection, queue, [position for (position,) in rows])
        connection.execute("UPDATE sweep SET position = ? WHERE id = ?", (rows[-1][0], number))
    return len(rows)


def _sweep_consumer(connection: sqlite3.Connection, left: _Sweep) -> int:
    """Remove a deleted consumer's dead letters, and the messages for it alone; then its row, whose number is free."""
    number, queue, consumer, after, _ = left
    its_own = connection.execute(
        "SELECT position FROM message WHERE consumer = ? AND queue = ? "
        "AND position > max(?, (SELECT floor FROM queue WHERE id = ?)) ORDER BY position LIMIT ?",
        (consumer, queue, after, queue, _STEP),
    ).fetchall()
    if its_own:
        remove_unwanted(connection, queue, [position for (position,) in its_own])
        # What the queue keeps for a while is still there: the next step goes on after it.
        connection.execute("UPDATE sweep SET position = ? WHERE id = ?", (its_own[-1][0], number))
        return len(its_own)
    dead = connection.execute(
        "DELETE FROM dead_letter WHERE number IN (SELECT number FROM dead_letter WHERE consumer = ? LIMIT ?)",
        (consumer, _STEP),
    ).rowcount
    if dead:
        return dead
    delayed = connection.execute(
        "DELETE FROM scheduled WHERE number IN "
        "(SELECT number FROM scheduled WHERE queue = ? AND consumer = ? LIMIT ?) "
        f"RETURNING {SCHEDULED_SIZE}, number > (SELECT scheduled_floor FROM queue q WHERE q.id = scheduled.queue)",
        (queue, consumer, _STEP),
    ).fetchall()
    if delayed:
        counted = [size for size, is_counted in delayed if is_counted]
        connection.execute(
            "UPDATE queue SET delayed = delayed - ?, bytes = bytes - ? WHERE id = ?",
            (len(counted), sum(counted), queue),
        )
        return len(delayed)
    connection.execute("DELETE FROM consumer WHERE id = ?", (consumer,))
    return 0


def _remove_unwanted(connection: sqlite3.Connection, queue: int, positions: list[int]) -> None:
    """Remove those of some messages that nobody wants; what is below the floor is counted already.

    A queue without consumers keeps all that it has.
    """
    rows = connection.execute("SELECT floor FROM queue WHERE id = ? AND consumers > 0", (queue,)).fetchall()
    for (floor,) in rows:
        remove_unwanted(connection, queue, [position for position in positions if position > floor])


_KINDS: dict[str, Callable[[sqlite3.Connection, _Sweep], int]] = {
    "floor": _sweep_floor,
    "scheduled": _sweep_scheduled,
    "ledger": _sweep_ledger,
    "between": _sweep_between,
    "consumer": _sweep_consumer,
}
