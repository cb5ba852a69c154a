"""How fast a client may send: a bucket that fills with time and is emptied by what comes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from waypost.errors import LimitExceeded

if TYPE_CHECKING:
    from waypost.server.connections.connection import Connection

__all__ = ["Bucket", "Pace"]

_FAR_AHEAD_S = 5.0
"""Whoever sends too fast is not read on. What a single body still brings may be ahead of its time by this much."""


class Bucket:
    """A token bucket that may be overdrawn.

    Args:
        per_s: How many are allowed a second; at once, as many as in one second, or one.
        now: The time, in seconds on any monotonic clock.
    """

    __slots__ = ("_at", "_left", "_most", "_per_s")

    def __init__(self, per_s: float, now: float) -> None:
        self._per_s = per_s
        self._most = max(per_s, 1.0)
        self._left = self._most
        self._at = now

    def take(self, now: float) -> None:
        """Take one, whether there is one or not."""
        self._fill(now)
        self._left -= 1

    def ahead_s(self, now: float) -> float:
        """Tell for how many seconds more was taken than allowed; 0 while it was not."""
        self._fill(now)
        return max(-self._left / self._per_s, 0.0)

    def _fill(self, now: float) -> None:
        self._left = min(self._left + (now - self._at) * self._per_s, self._most)
        self._at = now


class Pace:
    """Keeps a client to its pace: first it is read no further for a while, and far ahead of it, it is closed.

    Args:
        connection: The client's connection.
        per_s: How many messages it may send a second.
    """

    __slots__ = ("_bucket", "_connection", "_loop", "_per_s", "_timer")

    def __init__(self, connection: Connection, per_s: float) -> None:
        self._connection = connection
        self._per_s = per_s
        self._loop = asyncio.get_running_loop()
        self._bucket = Bucket(per_s, self._loop.time())
        self._timer: asyncio.TimerHandle | None = None

    def count(self) -> None:
        """Count a message of the client.

        Raises:
            LimitExceeded: It is too far ahead.
        """
        now = self._loop.time()
        self._bucket.take(now)
        ahead_s = self._bucket.ahead_s(now)
        if ahead_s > _FAR_AHEAD_S:
            raise LimitExceeded("messages a second", int(self._per_s), int(self._per_s * ahead_s))
        if ahead_s > 0 and self._timer is None:
            self._connection.pause_reading(self)
            self._timer = self._loop.call_later(ahead_s, self._read_on)

    def stop(self) -> None:
        """Count no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _read_on(self) -> None:
        self._timer = None
        ahead_s = self._bucket.ahead_s(self._loop.time())
        if ahead_s > 0:
            self._timer = self._loop.call_later(ahead_s, self._read_on)
        else:
            self._connection.resume_reading(self)
