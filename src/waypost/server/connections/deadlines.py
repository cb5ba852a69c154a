"""One timer of the event loop for the deadlines of all connections."""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from math import ceil, inf
from typing import Protocol

__all__ = ["Deadlines", "Ticking"]

_STEP_S = 0.02


class Ticking(Protocol):
    """Whoever has a deadline."""

    def tick(self) -> None:
        """Do what is due, perhaps nothing: a deadline may have moved on. Whoever has one still, sets it again."""
        ...


class Deadlines:
    """Rings for many, each at its time or up to 20 ms later.

    A timer of the event loop for each connection takes 600 bytes, and a place here some 40.

    Args:
        loop: The event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # Dicts for their order, so that a simulation is the same every time.
        self._steps: dict[int, dict[Ticking, None]] = {}
        self._order: list[int] = []
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = inf

    def move(self, who: Ticking, rings_at: float, deadline: float) -> float:
        """Ring for somebody at another time.

        Args:
            who: For whom.
            rings_at: When it would have rung so far, as returned before; infinity for never.
            deadline: When it is to ring; infinity for never.

        Returns:
            When it rings, on the event loop's clock.
        """
        if rings_at != inf:
            self._steps.get(round(rings_at / _STEP_S), {}).pop(who, None)
        if deadline == inf:
            return inf
        step = ceil(deadline / _STEP_S)
        waiting = self._steps.get(step)
        if waiting is None:
            waiting = self._steps[step] = {}
            heappush(self._order, step)
            self._wind(step * _STEP_S)
        waiting[who] = None
        return step * _STEP_S

    def _wind(self, at: float) -> None:
        if at < self._rings_at:
            if self._timer is not None:
                self._timer.cancel()
            self._rings_at = at
            self._timer = self._loop.call_at(at, self._ring)

    def _ring(self) -> None:
        self._rings_at = inf
        now = self._loop.time()
        while self._order and self._order[0] * _STEP_S <= now:
            for who in self._steps.pop(heappop(self._order)):
                try:
                    who.tick()
                except Exception as error:  # noqa: BLE001  # the others would never ring again
                    self._loop.call_exception_handler({"message": "a deadline's tick failed", "exception": error})
        if self._order:
            self._wind(self._order[0] * _STEP_S)
