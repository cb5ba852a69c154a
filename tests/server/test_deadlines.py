"""One timer for many deadlines, on a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from tests.support.waiting import DEADLINE_S
from waypost.server.connections.deadlines import Deadlines

LATEST_S = 0.001


class Timer:
    """A timer that can be cancelled."""

    def __init__(self, at: float, ring: Callable[[], None]) -> None:
        self.at = at
        self.ring = ring
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Clock:
    """As much of an event loop as has to do with time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []
        self.reported: list[object] = []

    def call_exception_handler(self, context: dict[str, object]) -> None:
        self.reported.append(context["exception"])

    def time(self) -> float:
        return self.now

    def call_at(self, at: float, ring: Callable[[], None]) -> Timer:
        self.timers.append(Timer(at, ring))
        return self.timers[-1]

    @property
    def waiting(self) -> list[Timer]:
        return [timer for timer in self.timers if not timer.is_cancelled]

    def go_to(self, time: float) -> None:
        """Let time pass, and ring what is due at its moment."""
        while due := sorted((timer for timer in self.waiting if timer.at <= time), key=lambda timer: timer.at):
            self.timers.remove(due[0])
            self.now = max(self.now, due[0].at)
            due[0].ring()
        self.now = time


class Ringing:
    """Notes when it is told of its deadline, and may have another one then."""

    def __init__(self, clock: Clock, deadlines: Deadlines, *later: float) -> None:
        self._clock = clock
        self._deadlines = deadlines
        self._later = list(later)
        self.rings_at = inf
        self.rang: list[float] = []

    def move(self, deadline: float) -> None:
        self.rings_at = self._deadlines.move(self, self.rings_at, deadline)

    def tick(self) -> None:
        self.rang.append(self._clock.now)
        self.rings_at = inf
        if self._later:
            self.move(self._later.pop(0))


def make(*later: float) -> tuple[Clock, Deadlines, Ringing]:
    clock = Clock()
    deadlines = Deadlines(clock)  # type: ignore[arg-type]
    return clock, deadlines, Ringing(clock, deadlines, *later)


@given(st.lists(st.one_of(st.just(inf), st.floats(0.001, 100)), min_size=1, max_size=30))
def test_each_rings_once_at_its_last_deadline_or_a_millisecond_later(deadlines: list[float]) -> None:
    clock, all_of_them, _ = make()
    ringing = [Ringing(clock, all_of_them) for _ in range(5)]
    last = [inf] * 5
    for number, deadline in enumerate(deadlines):
        ringing[number % 5].move(deadline)
        last[number % 5] = deadline
        assert len(clock.waiting) <= 1
    clock.go_to(200)
    for one, deadline in zip(ringing, last, strict=True):
        assert len(one.rang) == (deadline != inf)
        assert all(deadline - 1e-9 <= rang <= deadline + LATEST_S + 1e-9 for rang in one.rang)
    assert clock.waiting == []


def test_one_that_rings_may_have_another_deadline() -> None:
    clock, _, one = make(2.0, 1.0)
    one.move(1.0)
    clock.go_to(10)
    assert [round(rang) for rang in one.rang] == [1, 2, 2]  # the last one had passed


def test_one_that_rings_may_take_back_that_of_another_in_the_same_step() -> None:
    clock, deadlines, other = make()

    class Taking(Ringing):
        def tick(self) -> None:
            super().tick()
            other.move(inf)

    taking = Taking(clock, deadlines)
    taking.move(1.0)
    other.move(1.0)
    clock.go_to(2)
    assert len(taking.rang) == 1
    assert len(other.rang) <= 1  # a tick that is not due does nothing, as `Ticking` says
    other.move(3.0)
    clock.go_to(4)
    assert round(other.rang[-1]) == 3


def test_one_that_fails_is_reported_and_the_others_ring() -> None:
    clock, deadlines, other = make(5.0)
    error = ValueError("of the tick's own")

    class Failing:
        def tick(self) -> None:
            raise error

    deadlines.move(Failing(), inf, 1.0)
    other.move(1.0)
    clock.go_to(10)
    assert [round(rang) for rang in other.rang] == [1, 5]
    assert clock.reported == [error]


async def _on_a_real_loop() -> None:
    rang = asyncio.Event()

    class Once:
        def tick(self) -> None:
            rang.set()

    loop = asyncio.get_running_loop()
    deadlines = Deadlines(loop)
    deadlines.move(Once(), inf, loop.time() + 0.01)
    async with asyncio.timeout(DEADLINE_S):
        await rang.wait()


def test_a_real_loop_rings() -> None:
    asyncio.run(_on_a_real_loop())
