"""Time slices for the input of clients: after each slice the event loop runs all other work."""

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
"""A batch is 32 small packets or 64 kB of large ones. The clock is read after each batch."""


class Slices:
    """The time that all input of one iteration of the event loop shares.

    Input that fits into one batch, as almost all does, is taken at once and needs no slice. Larger input continues
    while `has_time`, and then waits. In each iteration one of the waiting inputs continues, in the order in which
    they started to wait.

    Args:
        clock: Returns the time in seconds. The event loop's own clock may stand still during an iteration.
    """

    __slots__ = ("_clock", "_ends_at", "_waiting")

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._ends_at: float | None = None
        self._waiting: deque[Callable[[], object]] = deque()

    def has_time(self) -> bool:
        """Return whether input may continue in this iteration of the event loop."""
        now = self._clock()
        if self._ends_at is None:
            self._begin(now)
            return True
        return now < self._ends_at

    def when_next(self, go_on: Callable[[], object]) -> None:
        """Call a function in a later iteration, after all that wait already."""
        self._waiting.append(go_on)
        if self._ends_at is None:
            self._begin(self._clock())

    async def next(self) -> None:
        """Wait for a later iteration, after all that wait already. May be cancelled."""
        turn = asyncio.get_running_loop().create_future()
        self.when_next(partial(_resume, turn))
        await turn

    def renew(self) -> None:
        """Drop all that waits: the event loop that would have run it may have ended."""
        self._ends_at = None
        self._waiting.clear()

    def _begin(self, now: float) -> None:
        # The end is set after the call: if `call_soon` raises, the next input starts a slice.
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
        slices: The time slices of all input.
    """

    __slots__ = ("_slices", "_taken")

    def __init__(self, slices: Slices) -> None:
        self._slices = slices
        self._taken = 0

    def take(self, size: int) -> bool:
        """Count a packet.

        Args:
            size: The packet's size, in bytes or characters.

        Returns:
            False if the input after the packet must wait.
        """
        self._taken += _PACKET + size
        if self._taken < _BATCH:
            return True
        self._taken = 0
        return self._slices.has_time()
