"""One timer of the event loop for the deadlines of all connections."""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from math import ceil, floor, inf
from typing import Protocol

__all__ = ["Deadlines", "Ticking"]

_STEP_S = 0.02
_PER_S = 1_000
"""The most rings per second: deadlines in the same millisecond share an iteration of the event loop."""


class Ticking(Protocol):
    """An object with a deadline."""

    def tick(self) -> None:
        """Do the work that is due, and set the next deadline, if any.

        There may be no work, because the deadline may have moved.
        """
        ...


class Deadlines:
    """Rings for many objects, for each at its deadline or up to a millisecond later.

    A timer of the event loop per connection takes 600 bytes; an entry here takes about 50. Deadlines are grouped into
    steps of 20 ms, and only the current step is searched.

    Args:
        loop: The event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # Dicts keep the order, so that each run of a simulation is the same.
        self._steps: dict[int, dict[Ticking, float]] = {}
        self._order: list[int] = []
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = inf

    def move(self, who: Ticking, rings_at: float, deadline: float) -> float:
        """Change an object's deadline.

        Args:
            who: The object.
            rings_at: The value that the last call returned; infinity for the first call.
            deadline: The new deadline, on the event loop's clock; infinity for none.

        Returns:
            The new deadline; the ring follows within a millisecond.
        """
        if rings_at != inf:
            self._steps.get(floor(rings_at / _STEP_S), {}).pop(who, None)
        if deadline == inf:
            return inf
        step = floor(deadline / _STEP_S)
        waiting = self._steps.get(step)
        if waiting is None:
            # Each step may raise, and other objects share the step: the entry is added last.
            heappush(self._order, step)
            waiting = self._steps[step] = {}
        self._wind(deadline)
        waiting[who] = deadline
        return deadline

    def _wind(self, deadline: float) -> None:
        if deadline < self._rings_at:
            at = max(ceil(deadline * _PER_S) / _PER_S, deadline)
            timer = self._loop.call_at(at, self._ring)
            if self._timer is not None:
                self._timer.cancel()
            self._timer, self._rings_at = timer, at

    def _ring(self) -> None:
        self._rings_at, self._timer = inf, None
        now = self._loop.time()
        try:
            while self._order and self._order[0] <= floor(now / _STEP_S):
                step = self._order[0]
                waiting = self._steps.get(step)
                if waiting:
                    self._ring_for(waiting, now)
                if waiting or self._order[0] != step:
                    # An object may have a new deadline in this step; it rings in another iteration of the loop.
                    break
                self._steps.pop(heappop(self._order), None)
        finally:
            self._wind_for_next()

    def _wind_for_next(self) -> None:
        while self._order:
            first = self._steps.get(self._order[0])
            if first:
                self._wind(min(first.values()))
                return
            # All deadlines of this step have moved.
            self._steps.pop(heappop(self._order), None)

    def _ring_for(self, waiting: dict[Ticking, float], now: float) -> None:
        for who in [who for who, deadline in waiting.items() if deadline <= now]:
            # An object that rang before may have moved this deadline.
            if waiting.pop(who, inf) == inf:
                continue
            try:
                who.tick()
            except Exception as error:  # noqa: BLE001  # otherwise the other deadlines would never ring
                self._loop.call_exception_handler({"message": "a deadline's tick failed", "exception": error})
