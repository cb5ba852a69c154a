"""Time for what clients send, in slices: after each the event loop turns, and everybody else has their turn."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from functools import partial

__all__ = ["Share", "Slices"]

_SLICE_S = 0.005
_BATCH = 65_536
_PACKET = 2_048
"""A batch is 32 small packets or 64 kB of large ones; the clock is looked at after each."""


class Slices:
    """The time that all input of one turn of the event loop shares.

    Input that fits into a batch (almost all does) is taken at once and asks for nothing. Larger input goes on while
    `has_time`, and then waits. In each turn one of those that wait goes on, in the order in which they began to wait.

    Args:
        clock: Gives the time in seconds. The event loop's own clock may stand still during a turn.
    """

    __slots__ = ("_clock", "_ends_at", "_waiting")

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._ends_at: float | None = None
        self._waiting: deque[Callable[[], object]] = deque()

    def has_time(self) -> bool:
        """True while input may go on in this turn of the event loop."""
        now = self._clock()
        if self._ends_at is None:
            self._begin(now)
            return True
        return now < self._ends_at

    def when_next(self, go_on: Callable[[], object]) -> None:
        """Call a function in a later turn, when all that wait already had theirs."""
        self._waiting.append(go_on)
        if self._ends_at is None:
            self._begin(self._clock())

    async def next(self) -> None:
        """Wait for a later turn, behind all that wait already. May be cancelled."""
        turn = asyncio.get_running_loop().create_future()
        self.when_next(partial(_resume, turn))
        await turn

    def _begin(self, now: float) -> None:
        # Noted last: if this raises, the next one begins a slice.
        asyncio.get_running_loop().call_soon(self._end)
        self._ends_at = now + _SLICE_S

    def _end(self) -> None:
        self._ends_at = None
        if self._waiting:
            go_on = self._waiting.popleft()
            try:
                self._begin(self._clock())
            finally:
                go_on()


def _resume(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


class Share:
    """One client's input, which asks for time after each batch.

    Args:
        slices: The time of all.
    """

    __slots__ = ("_slices", "_taken")

    def __init__(self, slices: Slices) -> None:
        self._slices = slices
        self._taken = 0

    def take(self, size: int) -> bool:
        """Count a packet of so many bytes or characters; False if the input after it has to wait."""
        self._taken += _PACKET + size
        if self._taken < _BATCH:
            return True
        self._taken = 0
        return self._slices.has_time()
