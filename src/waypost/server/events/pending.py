"""How much memory the events of one connection take that were not handled yet, and when no more of them are read."""

from __future__ import annotations

import asyncio
from typing import Protocol

__all__ = ["LARGE", "Pending", "Reading"]

LARGE = 262_144
"""An event above this number of bytes is large. Work on large events must not delay heartbeats and small events."""


class Reading(Protocol):
    """The connection, as far as it can be told to wait."""

    def pause_reading(self, by: object) -> None:
        """Take no more input until the same object asks for it."""
        ...

    def resume_reading(self, by: object) -> None:
        """Take input again, unless another object wants none yet."""
        ...


class Pending:
    """The bytes, as decoded, of a connection's events that wait for their handlers or are being handled.

    Args:
        reading: The connection.
        most_bytes: How many bytes there may be before nothing more is read.

    Attributes:
        waiting: The bytes of the events that wait.
        in_hand: The bytes of the events that are being handled.
        is_paused: Whether reading is paused. Call `check` after each change then.
        plenty: While no more bytes than this wait or are handled, sizes may be estimated roughly, and too high.
    """

    __slots__ = ("_most_bytes", "_reading", "_waiters", "in_hand", "is_paused", "plenty", "waiting")

    def __init__(self, reading: Reading, most_bytes: int) -> None:
        self.waiting = 0
        self.in_hand = 0
        self._reading = reading
        self._most_bytes = most_bytes
        self.plenty = most_bytes // 2
        self._waiters: tuple[asyncio.Future[None], ...] = ()
        self.is_paused = False

    def put(self, size: int) -> None:
        """Note that an event of so many bytes waits."""
        self.waiting += size
        if self.waiting > LARGE:
            self.check()

    def drop(self, size: int) -> None:
        """Note that an event of so many bytes does not wait any more, and will not be handled here."""
        self.waiting -= size
        if self.is_paused:
            self.check()

    async def room_for(self, size: int) -> None:
        """Wait with a large event until it may be handled beside those that are; one may be in any case.

        May be cancelled.
        """
        while self.in_hand and self.in_hand + size > self._most_bytes:
            released = asyncio.get_running_loop().create_future()
            self._waiters += (released,)
            await released

    def release(self, size: int) -> None:
        """Note that an event of so many bytes is not being handled any more."""
        self.in_hand -= size
        if self.is_paused:
            self.check()
        if self._waiters:
            waiters, self._waiters = self._waiters, ()
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def check(self) -> None:
        """Pause reading if too much waits, or resume it once half of that is gone."""
        room = self._most_bytes - self.in_hand
        if self.is_paused:
            if self.waiting <= max(room // 2, LARGE):
                self.is_paused = False
                self._reading.resume_reading(self)
        elif self.waiting > max(room, LARGE):
            self.is_paused = True
            self._reading.pause_reading(self)
