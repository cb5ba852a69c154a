"""The limit on a client's rate of messages: a token bucket that pauses reading."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from waypost.errors import LimitExceeded

if TYPE_CHECKING:
    from waypost.server.connections.connection import Connection

__all__ = ["Bucket", "Pace"]

_FAR_AHEAD_S = 5.0
"""We stop reading from a client over its rate. One body may exceed the rate by this many seconds."""


class Bucket:
    """A token bucket that may be overdrawn.

    Args:
        per_s: The rate, in tokens per second, above 0. The bucket holds one second's tokens, at least one.
        now: The time, in seconds on any monotonic clock.
    """

    __slots__ = ("_at", "_left", "_most", "_per_s")

    def __init__(self, per_s: float, now: float) -> None:
        self._per_s = per_s
        self._most = max(per_s, 1.0)
        self._left = self._most
        self._at = now

    def take(self, now: float) -> None:
        """Take a token, even from an empty bucket."""
        self._fill(now)
        self._left -= 1

    def ahead_s(self, now: float) -> float:
        """Return the overdraft in seconds at the bucket's rate; 0 without an overdraft."""
        self._fill(now)
        return max(-self._left / self._per_s, 0.0)

    def _fill(self, now: float) -> None:
        self._left = min(self._left + (now - self._at) * self._per_s, self._most)
        self._at = now


class Pace:
    """Limits a client's rate: an overdraft pauses reading, and a large overdraft closes the connection.

    Args:
        connection: The client's connection.
        per_s: The most messages per second, above 0.
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
            LimitExceeded: The client exceeds the rate by too much.
        """
        now = self._loop.time()
        self._bucket.take(now)
        ahead_s = self._bucket.ahead_s(now)
        if ahead_s > _FAR_AHEAD_S:
            sent = int(self._per_s * ahead_s)
            raise LimitExceeded("messages a second", int(self._per_s), sent, "max_messages_per_s")
        if ahead_s > 0 and self._timer is None:
            self._connection.pause_reading(self)
            self._timer = self._loop.call_later(ahead_s, self._read_on)

    def stop(self) -> None:
        """Stop limiting, because the connection has ended."""
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
