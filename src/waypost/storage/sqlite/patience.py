"""How long writes wait for a lock that another program holds."""

from __future__ import annotations

import sqlite3
import time

__all__ = ["ASK_EVERY_S", "Patience", "is_locked"]

ASK_EVERY_S = 0.25
"""For how long SQLite waits for the lock before it says so, in seconds; then it is asked again."""


def is_locked(error: Exception) -> bool:
    """Return whether an error says that another program holds the lock."""
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


class Patience:
    """Lets each write wait for the lock equally long, however many wait before it.

    Args:
        patience_s: For how long, in seconds.
    """

    __slots__ = ("_patience_s", "_waiting")

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        # Since when how many writes have waited; those that were asked for first come first.
        self._waiting: list[tuple[float, int]] = []

    @property
    def is_left(self) -> bool:
        """Whether a write that waits may wait on."""
        limit = time.monotonic() - self._patience_s
        return any(since > limit for since, _ in self._waiting)

    def overdue(self, writes: int) -> int:
        """Note that the lock was not given to this many writes.

        Returns:
            How many of them, the first ones, have waited long enough.
        """
        now = time.monotonic()
        if (new := writes - sum(number for _, number in self._waiting)) > 0:
            self._waiting.append((now - ASK_EVERY_S, new))
        overdue = 0
        while self._waiting and self._waiting[0][0] <= now - self._patience_s:
            overdue += self._waiting.pop(0)[1]
        return overdue

    def keep(self, writes: int) -> None:
        """Note that this many of the overdue writes are kept all the same."""
        if writes:
            self._waiting.insert(0, (time.monotonic() - self._patience_s, writes))

    def end(self) -> None:
        """Note that the lock was given."""
        self._waiting.clear()
