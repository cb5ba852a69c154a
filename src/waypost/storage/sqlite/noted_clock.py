"""The store's clock as the file knows it: noted with the commits, so that it never goes back, not even after a crash.

The file always has a time that no commit is later than. It is noted a moment ahead, so that of very many commits
only ten a second write it; and exactly when the store is closed. Beside it stands how far the clock is from the wall
clock, by which other programs on the same file follow it.
"""

from __future__ import annotations

import sqlite3

from waypost.storage.clock import StoreClock
from waypost.storage.sqlite.jobs import Transaction

__all__ = ["ClockNotes", "begin_clock", "follow_clock", "note_exactly"]

_AHEAD_S = 0.1


class ClockNotes:
    """Notes a store's clock in the transactions of its writer.

    Args:
        clock: The clock.
        store: The store, as the log names it.
    """

    __slots__ = ("_clock", "_noted", "_store", "_writing")

    def __init__(self, clock: StoreClock, store: str) -> None:
        self._clock = clock
        self._store = store
        self._noted = self._writing = 0.0

    def begin(self, connection: sqlite3.Connection, now: float) -> None:
        """Note the clock in a transaction that has just begun at a time, if what is noted does not cover that."""
        self._writing = self._noted
        if self._clock.look(self._store) or now > self._noted:
            self._writing = max(self._noted, now + _AHEAD_S)
            connection.execute(
                "UPDATE opening SET clock = max(coalesce(clock, 0), ?), ahead_s = ?",
                (self._writing, self._clock.ahead_s),
            )

    def committed(self) -> None:
        """Take what the transaction wrote as noted."""
        self._noted = self._writing


def begin_clock(connection: sqlite3.Connection, clock: StoreClock) -> float:
    """Begin the clock of a store that is being opened, after its last noted time; returns the time."""
    ((noted,),) = connection.execute("SELECT coalesce(clock, 0) FROM opening").fetchall()
    clock.begin(noted)
    return clock.now()


def follow_clock(connection: sqlite3.Connection, clock: StoreClock) -> None:
    """Begin a clock that agrees with the one of the store that has the file open, or had it last."""
    ((noted, ahead_s),) = connection.execute("SELECT coalesce(clock, 0), ahead_s FROM opening").fetchall()
    clock.begin(noted, ahead_s)


def note_exactly(tx: Transaction) -> None:
    """Note the time as it is, in the last transaction of a store that is being closed."""
    tx.connection.execute("UPDATE opening SET clock = ?", (tx.now,))
