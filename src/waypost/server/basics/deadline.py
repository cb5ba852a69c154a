"""A time limit that may be shortened while somebody waits for something within it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

__all__ = ["Deadline"]


class Deadline:
    """A time limit. Before the first `end_within` there is none.

    Attributes:
        is_hurried: True if the limit was shortened after it was set.
    """

    def __init__(self) -> None:
        self.is_hurried = False
        self._ends: float | None = None
        self._waiting: asyncio.Timeout | None = None

    def end_within(self, seconds: float) -> None:
        """Set the limit. A later limit than before has no effect.

        Args:
            seconds: Seconds from now, from 0.
        """
        ends = asyncio.get_running_loop().time() + seconds
        if self._ends is not None:
            if ends >= self._ends:
                return
            self.is_hurried = True
        self._ends = ends
        if self._waiting is not None:
            self._waiting.reschedule(ends)

    def leave(self, seconds: float) -> None:
        """Move the limit so that at least so many seconds are left, unless it was shortened."""
        if self._ends is not None and not self.is_hurried:
            self._ends = max(self._ends, asyncio.get_running_loop().time() + seconds)

    async def wait_for(self, tasks: Callable[[], Collection[asyncio.Task[Any]]]) -> None:
        """Wait until there are no tasks, at most until the limit. May be cancelled. One caller at a time.

        Args:
            tasks: Returns the tasks. The end of one may start another.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._ends) as self._waiting:
                while waiting := tasks():
                    await asyncio.wait(waiting)
        self._waiting = None
