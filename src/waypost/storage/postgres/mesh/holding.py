"""Holds messages back until this node's earlier writes are applied, so that they come after them everywhere."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

__all__ = ["HOLD_S", "Holding"]

HOLD_S: Final = 1.0
"""Seconds for which a message waits at most. The engine may be away, and the other nodes need not be."""


class _Held:
    __slots__ = ("deadline", "is_ready", "release")

    def __init__(self, release: Callable[[], None], deadline: float) -> None:
        self.release = release
        self.deadline = deadline
        self.is_ready = False


class Holding:
    """The messages that wait, in order.

    Args:
        after_writes: Calls a function when the writes to journals that were asked for are applied here or have
            failed; at once if there are none.
    """

    __slots__ = ("_after_writes", "_held", "_loop", "_timer")

    def __init__(self, after_writes: Callable[[Callable[[], None]], None]) -> None:
        self._after_writes = after_writes
        self._held: deque[_Held] = deque()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not self._held

    def add(self, release: Callable[[], None]) -> None:
        """Call a function after the writes asked for before, and after the functions added before."""
        held = _Held(release, self._loop.time() + HOLD_S)
        self._held.append(held)

        def ready() -> None:
            held.is_ready = True
            self._go_on()

        self._after_writes(ready)
        if self._held and self._timer is None:
            self._timer = self._loop.call_at(self._held[0].deadline, self._time_over)

    def release_all(self) -> None:
        """Wait no longer for anything."""
        while self._held:
            self._held.popleft().release()

    def _time_over(self) -> None:
        self._timer = None
        self._go_on()
        if self._held:
            self._timer = self._loop.call_at(self._held[0].deadline, self._time_over)

    def _go_on(self) -> None:
        held = self._held
        while held and (held[0].is_ready or held[0].deadline <= self._loop.time()):
            held.popleft().release()
