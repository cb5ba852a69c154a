"""Fair turns for other programs beside a busy server.

In SQLite the program that asks at the right moment writes next. A program that waits asks again every 1 to 100 ms,
and a busy server writes again a moment after each commit, so the program could wait for seconds. So it holds a shared
lock on ``<path>-turn`` while it waits; the server looks for that between its transactions, and lets it write first.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

__all__ = ["OwnersTurns", "Turns", "VisitorsTurns", "asking", "data_version"]

_SUFFIX = "-turn"
# SQLite asks again after 100 ms at the latest.
_LONGEST_TURN_S = 0.12
_STEP_S = 0.001
# A look costs some microseconds, and commits may be many.
_LOOK_EVERY_S = 0.002
# A program that has not taken its turn (it was stopped, say) must not hold up each transaction.
_IGNORED_S = 1.0
# Programs that write in transactions of their own are not seen while they wait, only when they have written. For this
# long after it, a server that is busy all the time leaves them a part of the time.
_OTHERS_S = 2.0
_BUSY_S = 0.001
_SHARE = 1 / 2
_LONGEST_PAUSE_S = 0.01


class Turns(Protocol):
    """Begins the transactions of a writer, in turn with other programs. Used in the writer's thread."""

    def begin(self, connection: sqlite3.Connection) -> None:
        """Begin a transaction that writes.

        Raises:
            sqlite3.OperationalError: Another program holds the lock.
        """
        ...

    def ended(self) -> None:
        """Note that the transaction has ended."""
        ...

    def note_others(self) -> None:
        """Note that another program has written."""
        ...

    def close(self) -> None:
        """Begin no transaction any more."""
        ...


class VisitorsTurns:
    """The turns of a program beside a store's owner: it asks for each; see `Turns`.

    Args:
        path: The store's file.
    """

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        self._path = path

    def begin(self, connection: sqlite3.Connection) -> None:
        """Ask for a turn, and begin a transaction."""
        with asking(self._path):
            connection.execute("BEGIN IMMEDIATE")

    def ended(self) -> None:
        """Do nothing: the next turn is asked for, too."""

    def note_others(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class OwnersTurns:
    """The turns of a store's owner: it gives way to programs that ask; see `Turns`.

    Args:
        path: The store's file.
    """

    __slots__ = ("_began_at", "_descriptor", "_ended_at", "_look_at", "_others_until")

    def __init__(self, path: str) -> None:
        self._descriptor: int | None = None
        with suppress(OSError, ImportError):
            import fcntl  # noqa: F401 - there is none on Windows

            self._descriptor = os.open(f"{path}{_SUFFIX}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._look_at = self._others_until = 0.0
        self._began_at = self._ended_at = 0.0

    def begin(self, connection: sqlite3.Connection) -> None:
        """Let a program that waits write first, and begin a transaction."""
        self._give_way(connection)
        connection.execute("BEGIN IMMEDIATE")
        self._began_at = time.monotonic()

    def _give_way(self, connection: sqlite3.Connection) -> None:
        now = time.monotonic()
        if self._descriptor is not None and now >= self._look_at:
            self._look_at = now + _LOOK_EVERY_S
            if self._is_asked(self._descriptor):
                self._wait(connection, self._descriptor, now + _LONGEST_TURN_S)
                return
        if now < self._others_until and now - self._ended_at < _BUSY_S:
            # A transaction that failed has not ended: it leaves no pause.
            took_s = max(self._ended_at - self._began_at, 0.0)
            time.sleep(min(took_s * _SHARE, _LONGEST_PAUSE_S))

    def ended(self) -> None:
        """Note that the transaction has ended."""
        self._ended_at = time.monotonic()

    def note_others(self) -> None:
        """Note that another program has written."""
        self._others_until = time.monotonic() + _OTHERS_S

    def close(self) -> None:
        """Close the file of the turns."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _wait(self, connection: sqlite3.Connection, descriptor: int, until: float) -> None:
        before = data_version(connection)
        while self._is_asked(descriptor):
            if data_version(connection) != before:
                return
            if time.monotonic() > until:
                self._look_at = until + _IGNORED_S
                return
            time.sleep(_STEP_S)

    def _is_asked(self, descriptor: int) -> bool:
        import fcntl

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            # A file system without such locks.
            return False
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        return False


@contextmanager
def asking(path: str) -> Iterator[None]:
    """Ask the server for a turn while the body waits for SQLite's lock.

    Args:
        path: The store's file.
    """
    descriptor: int | None = None
    with suppress(OSError, ImportError):
        import fcntl

        descriptor = os.open(f"{path}{_SUFFIX}", os.O_RDONLY | os.O_CLOEXEC)
        # Nobody holds the other kind of lock for longer than a moment; and without a lock SQLite's own order counts.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def data_version(connection: sqlite3.Connection) -> int:
    """Return a number that changes when another connection has written to the file."""
    ((version,),) = connection.execute("PRAGMA data_version").fetchall()
    return int(version)
