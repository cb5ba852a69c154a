"""One timer of the event loop for the deadlines of all connections."""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from math import ceil, floor, inf
from typing import Protocol

__all__ = ["Deadlines", "Ticking"]

_STEP_S = 0.02
_PER_S = 1_000
"""How often a second it may ring: deadlines in the same millisecond share a turn of the event loop."""


class Ticking(Protocol):
    """Whoever has a deadline."""

    def tick(self) -> None:
        """Do what is due, perhaps nothing: a deadline may have moved on. Whoever has one still, sets it again."""
        ...


class Deadlines:
    """Rings for many, each at its time or up to a millisecond later.

    A timer of the event loop for each connection takes 600 bytes, and a place here some 50. Deadlines lie in steps of
    20 ms; only those of the step that has come are looked at one by one.

    Args:
        loop: The event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # Dicts for their order, so that a simulation is the same every time.
        self._steps: dict[int, dict[Ticking, float]] = {}
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
            When it rings, on the event loop's clock: the deadline, which a ring follows within a millisecond.
        """
        if rings_at != inf:
            self._steps.get(floor(rings_at / _STEP_S), {}).pop(who, None)
        if deadline == inf:
            return inf
        step = floor(deadline / _STEP_S)
        waiting = self._steps.get(step)
        if waiting is None:
            # In this order, and the place last: each step may raise, and others share all of them.
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
                    # Whoever rang has another deadline already; it gets a turn of its own, even if that has passed.
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
            # All that lay in this step have moved on.
            self._steps.pop(heappop(self._order), None)

    def _ring_for(self, waiting: dict[Ticking, float], now: float) -> None:
        for who in [who for who, deadline in waiting.items() if deadline <= now]:
            # One that rang before it may have moved it.
            if waiting.pop(who, inf) == inf:
                continue
            try:
                who.tick()
            except Exception as error:  # noqa: BLE001  # the others would never ring again
                self._loop.call_exception_handler({"message": "a deadline's tick failed", "exception": error})
