"""How late the event loop is: work that does not wait keeps everybody else waiting."""

from __future__ import annotations

import asyncio

__all__ = ["LoopLag"]

_LOOK_EVERY_S = 0.5
_WINDOW_S = 15.0


class LoopLag:
    """Sets a timer again and again, and notes how late it comes."""

    __slots__ = ("_before_s", "_due_at", "_ends_at", "_longest_s", "_timer")

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None
        self._due_at = self._ends_at = 0.0
        self._longest_s = self._before_s = 0.0

    @property
    def longest_s(self) -> float:
        """By how many seconds the event loop was late at most, in the last 15 to 30 s; to a hundredth.

        A smaller lag is none: servers tell each other numbers that change.
        """
        return round(max(self._longest_s, self._before_s), 2)

    def start(self) -> None:
        """Begin to look; in the event loop."""
        self.stop()
        self._longest_s = self._before_s = 0.0
        self._ends_at = asyncio.get_running_loop().time() + _WINDOW_S
        self._look_later()

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._due_at = loop.time() + _LOOK_EVERY_S
        self._timer = loop.call_at(self._due_at, self._look)

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        self._longest_s = max(self._longest_s, now - self._due_at)
        if now >= self._ends_at:
            self._before_s, self._longest_s = self._longest_s, 0.0
            self._ends_at = now + _WINDOW_S
        self._look_later()
