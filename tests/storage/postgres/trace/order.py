"""Plays the steps of a recorded run in the order of their places, and compares what came.

The order is known, so nothing is searched for: writes are played one after the other. A read, a refusal and a call
that says it did nothing saw some moment between their beginning and their end: each must agree with the state of the
engine at one of the places between. Two reads of one subject, one after the other, must not go back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any, Final

from tests.storage.postgres.trace.engine import FENCED, Engine, Moment
from tests.storage.postgres.trace.known import Step
from tests.storage.postgres.trace.recorder import Call, Refused
from tests.storage.postgres.trace.steps import left_before, steps_of

__all__ = ["NoOrder", "Played", "check"]

_ENDS_NODE: Final = frozenset({"declare_1", "leave_1"})


class NoOrder(AssertionError):
    """No order of the steps explains what came."""


@dataclass(frozen=True, slots=True)
class Played:
    """What was played.

    Attributes:
        engine: The engine at the end.
        writes: How many calls were done and have changed something.
        lost: How many of them without an answer.
        looks: How many reads, refusals and calls that did nothing were explained.
        functions: How often each function was among all of these.
    """

    engine: Engine
    writes: int
    lost: int
    looks: int
    functions: Mapping[str, int]


@dataclass(slots=True, eq=False)
class _Look:
    """A step that changed nothing, with the fewest and the most writes before it, and the numbers that explain it."""

    step: Step
    subject: Hashable
    first: int
    last: int
    fits: list[int] = field(default_factory=list)
    problem: str = ""


def check(calls: Sequence[Call], places: Mapping[int, int], queues: Mapping[int, str]) -> Played:
    """Play calls.

    Args:
        calls: The calls.
        places: The places of those that were done, by their numbers.
        queues: The names of queues, by their numbers.

    Raises:
        NoOrder: The pure engine does not give what came.
        AssertionError: A statement is in no table of steps.
    """
    left = left_before(calls)
    steps = [step for call in calls for step in steps_of(call, left)]
    drawn = Engine(named=_named(steps), drawn=_drawn(steps), queue_names=queues, left_before=left)
    return _Replay(steps, places, drawn).run()


class _Replay:
    def __init__(self, steps: Sequence[Step], places: Mapping[int, int], beginning: Engine) -> None:
        self._steps = steps
        self._beginning = beginning
        done = [step for step in steps if step.call.number in places and not _is_idle(step)]
        self._writes = sorted(done, key=lambda step: places[step.call.number])
        self._endings = [step.call for step in steps if step.call.function in _ENDS_NODE]
        self._engine = beginning.copy()
        self._touched: list[frozenset[Hashable]] = []

    def run(self) -> Played:
        self._check_times()
        # Once to find out what each write changes, once more to look at what lies between.
        self._touched = [frozenset()] * len(self._writes)
        for number in range(len(self._writes)):
            self._play(number)
        changed = {step.call.number for step in self._writes}
        looks = [self._look(step) for step in self._steps if step.call.number not in changed and _has_answer(step)]
        self._engine = self._beginning.copy()
        self._look_between(looks)
        _check_looks(looks)
        functions: dict[str, int] = {}
        for step in self._steps:
            functions[step.call.function] = functions.get(step.call.function, 0) + 1
        lost = sum(step.call.is_lost for step in self._writes)
        return Played(self._engine, len(self._writes), lost, len(looks), functions)

    def _look_between(self, looks: Sequence[_Look]) -> None:
        coming = deque(sorted(looks, key=lambda look: look.first))
        under_way: list[_Look] = []
        for number in range(len(self._writes) + 1):
            while coming and coming[0].first <= number:
                under_way.append(coming.popleft())
            for look in under_way:
                # Where a refusal has its place matters to nothing else.
                if not (look.fits and look.step.known.writes):
                    self._compare(look, number)
            under_way = [look for look in under_way if look.last > number]
            if number < len(self._writes):
                self._play(number)

    def _look(self, step: Step) -> _Look:
        call = step.call
        if step.known.writes and not step.is_refused and not _is_idle(step):
            raise NoOrder(f"it was answered, and not done: {call}")
        subject = step.subject
        # What was over before all that was not is certain to be seen; what began after it is certain not to be.
        first = next((n for n, one in enumerate(self._writes) if one.call.ended >= call.began), len(self._writes))
        begun = [n for n, one in enumerate(self._writes) if one.call.began <= call.ended]
        last = max(begun, default=-1) + 1
        if subject is None:
            return _Look(step, subject, first, last)
        for number, one in enumerate(self._writes):
            # What excludes each other has its places in the order of its effects; the rest need not have.
            if subject in self._touched[number]:
                if one.call.ended < call.began:
                    first = max(first, number + 1)
                elif one.call.began > call.ended:
                    last = min(last, number)
                    break
        return _Look(step, subject, first, last)

    def _check_times(self) -> None:
        latest: Call | None = None
        for step in self._writes:
            if latest is not None and step.call.ended < latest.began:
                raise NoOrder(f"it took effect only after one that began later: {step.call}\n  before {latest}")
            if latest is None or step.call.began > latest.began:
                latest = step.call

    def _play(self, number: int) -> None:
        step = self._writes[number]
        call = step.call
        self._engine.touched.clear()
        expected = self._on(self._engine, step, was_done=True)
        self._touched[number] = frozenset(self._engine.touched)
        if isinstance(expected, Refused):
            raise NoOrder(f"after {number} writes, it should have been refused ({expected.sqlstate}): {call}")
        if not call.is_lost and not step.known.agrees(expected, step.came):
            raise NoOrder(_difference(number, call, expected, step.came))

    def _compare(self, look: _Look, number: int) -> None:
        step = look.step
        if isinstance(step.came, Refused) and step.came.sqlstate == FENCED and self._is_ending(step):
            # While a node is declared dead, or leaves, its writes are refused, and nobody sees the rest yet.
            look.fits.append(number)
            return
        engine = self._engine.copy() if step.known.writes else self._engine
        expected = self._on(engine, step, was_done=False)
        if isinstance(expected, Refused) or isinstance(step.came, Refused):
            agrees = _sqlstate(expected) == _sqlstate(step.came)
        else:
            agrees = step.known.agrees(expected, step.came)
        if agrees:
            look.fits.append(number)
        else:
            look.problem = _difference(number, step.call, expected, step.came)

    def _on(self, engine: Engine, step: Step, *, was_done: bool) -> Any:
        call = step.call
        engine.moment = Moment(call.now, call.began, call.ended, was_done)
        try:
            return step.known.play(engine, call.arguments, None if step.is_refused else step.came)
        except Refused as refused:
            return refused

    def _is_ending(self, step: Step) -> bool:
        return any(
            one.arguments[0] == step.node and one.began < step.call.ended and step.call.began < one.ended
            for one in self._endings
        )


def _check_looks(looks: Sequence[_Look]) -> None:
    seen: dict[Hashable, list[tuple[float, int]]] = {}
    least: dict[Hashable, int] = {}
    for look in sorted(looks, key=lambda look: look.step.call.began):
        call, subject = look.step.call, look.subject
        earlier = seen.setdefault(subject, [])
        while earlier and earlier[0][0] < call.began:
            least[subject] = max(least.get(subject, 0), heappop(earlier)[1])
        from_here = 0 if look.step.known.writes else least.get(subject, 0)
        chosen = next((number for number in look.fits if number >= from_here), None)
        if chosen is None:
            went_back = f"; only before what was read of {subject} earlier: {call}" if look.fits else ""
            raise NoOrder((look.problem or f"no place for {call}") + went_back)
        if not look.step.known.writes:
            heappush(earlier, (call.ended, chosen))


def _has_answer(step: Step) -> bool:
    return not step.call.is_lost


def _is_idle(step: Step) -> bool:
    return _has_answer(step) and not step.is_refused and step.known.is_idle(step.came)


def _sqlstate(result: Any) -> str | None:
    return result.sqlstate if isinstance(result, Refused) else None


def _difference(number: int, call: Call, expected: Any, came: Any) -> str:
    return f"after {number} writes, at {call}\n  expected {expected!r}\n  came     {came!r}"


def _named(steps: Sequence[Step]) -> dict[tuple[int, int], str]:
    """Return the names of generations that the engine has drawn, from the rows that tell of them."""
    rows = [row for step in steps if step.call.function == "follow_1" and not step.is_refused for row in step.came]
    return {(row[0], row[1]): row[7] for row in rows if row[6] == 8}


def _drawn(steps: Sequence[Step]) -> dict[str, int]:
    """Return the numbers of journals that the engine has drawn, from the answers of those that have opened them."""
    opened = [step for step in steps if step.call.function == "open_journal_1" and isinstance(step.came, dict)]
    return {step.call.arguments[0]: step.came["journal"] for step in opened}
