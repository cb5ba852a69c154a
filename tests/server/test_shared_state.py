"""What all connections share stays whole whatever raises in it, and wherever.

A RecursionError or MemoryError can come out of every call. Each structure is used again and again, and the first of
its calls raises, then the second, and so on; afterwards everybody's work has to go on.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from math import inf
from types import FrameType
from typing import Any

import pytest

from tests.support.waiting import until
from waypost.retrying import RetryPolicy
from waypost.server.basics.slices import Slices
from waypost.server.basics.write_turn import WriteTurn
from waypost.server.calling.runners import Runners
from waypost.server.connections.deadlines import Deadlines
from waypost.server.emitting.emit_line import EmitLine
from waypost.server.queues.settler import Settler

pytestmark = [
    pytest.mark.asyncio,
    # What is made to raise may be a weak reference's callback, whose error nobody can take.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

_MOST_CALLS = 100
"""More calls than any of these structures makes."""


def raises_at(number: int, call: Callable[[], Any]) -> bool:
    """Call something, and let one of the calls that it makes raise; tell whether it made so many."""
    left = number

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal left
        if event in ("call", "c_call") and argument is not sys.setprofile:
            left -= 1
            if left < 0:
                raise RecursionError("of this test's own")

    sys.setprofile(count)
    try:
        call()
    except RecursionError:
        return True
    finally:
        sys.setprofile(None)
    return left < 0


def at_each_call(call: Callable[[], Any]) -> None:
    """Call something so often that each of the calls it makes has raised once."""
    raised = [raises_at(number, call) for number in range(_MOST_CALLS)]
    assert raised[0]
    assert not raised[-1]


class Writing:
    def __init__(self, raises: BaseException | None = None) -> None:
        self.raises = raises
        self.written = 0

    def write_out(self) -> None:
        self.written += 1
        if self.raises is not None:
            raise self.raises


async def test_a_turn_whose_calls_raise_still_has_an_end() -> None:
    turn = WriteTurn()
    at_each_call(lambda: turn.add(Writing()))
    for _ in range(2):
        another = Writing()
        turn.add(another)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert another.written == 1


async def test_a_turn_that_is_broken_off_loses_nobodys_write() -> None:
    turn, broken, others = WriteTurn(), Writing(KeyboardInterrupt()), [Writing(), Writing()]
    turn.promise_end()  # so that the loop does not end it, which this would end
    for writer in (broken, *others):
        turn.add(writer)
    with pytest.raises(KeyboardInterrupt):
        turn.end()
    await asyncio.sleep(0)
    assert [writer.written for writer in others] == [1, 1]


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
async def test_runners_whose_calls_raise_run_what_comes_next() -> None:
    turn, ran = WriteTurn(), list[str]()
    tasks: set[asyncio.Task[Any]] = set()
    runners = Runners(tasks.add, turn)

    def work(name: str) -> Callable[[], Coroutine[Any, Any, None]]:
        async def run() -> None:
            ran.append(name)

        return run

    at_each_call(lambda: runners.submit(work("deep")))
    for number in range(3):
        runners.submit(work(f"next {number}"))
        await until(lambda number=number: f"next {number}" in ran, "it has run")  # type: ignore[misc]
    # What raised was not taken; all that was, has run once.
    writer = Writing()
    turn.add(writer)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert writer.written == 1


async def test_runners_go_on_after_a_turn_that_is_broken_off() -> None:
    ran: list[str] = []

    class Broken(WriteTurn):
        def end(self) -> None:
            raise ValueError("of the turn's own")

    broken = Broken()
    tasks: set[asyncio.Task[Any]] = set()
    reported: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
    runners = Runners(tasks.add, broken)

    async def again() -> None:
        ran.append("again")

    async def first() -> None:
        ran.append("first")
        await asyncio.sleep(0)

    runners.submit(first)
    runners.submit(again)
    await until(lambda: ran == ["first", "again"], "both have run")
    assert [type(error) for error in reported] == [ValueError] * len(reported)
    assert reported


async def test_slices_whose_calls_raise_go_on() -> None:
    slices, went_on = Slices(), list[int]()
    at_each_call(slices.has_time)
    await asyncio.sleep(0)
    at_each_call(lambda: slices.when_next(lambda: None))
    slices.when_next(lambda: went_on.append(1))
    await until(lambda: went_on == [1], "it goes on")
    await until(slices.has_time, "a slice ends")


class Ringing:
    def __init__(self, raises: BaseException | None = None) -> None:
        self.rang = 0
        self.raises = raises

    def tick(self) -> None:
        self.rang += 1
        if self.raises is not None:
            raise self.raises


async def test_deadlines_whose_calls_raise_ring_for_the_others() -> None:
    loop = asyncio.get_running_loop()
    deadlines = Deadlines(loop)
    soon = loop.time() + 0.05
    # Each is the first of all, and so winds the one timer anew.
    earlier = [soon + number / 1_000_000 for number in range(2 * _MOST_CALLS)]
    at_each_call(lambda: deadlines.move(Ringing(), inf, earlier.pop()))
    other = Ringing()
    deadlines.move(other, inf, soon + 0.01)
    await until(lambda: other.rang == 1, "it rings")


@pytest.mark.parametrize("raised", [ValueError(), KeyboardInterrupt()])
async def test_deadlines_ring_on_after_one_that_raises(raised: BaseException) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: None)
    deadlines = Deadlines(loop)
    due = loop.time()
    all_of_them = [Ringing(raised), Ringing(), Ringing()]
    for one in all_of_them:
        deadlines.move(one, inf, due)
    try:
        deadlines._ring()
    except KeyboardInterrupt:
        assert isinstance(raised, KeyboardInterrupt)
    await until(lambda: [one.rang for one in all_of_them] == [1, 1, 1], "each rings once")


async def test_a_line_whose_calls_raise_goes_on() -> None:
    line = EmitLine()
    loop = asyncio.get_running_loop()
    done: list[int] = []

    for number in range(_MOST_CALLS):
        place = line.enter()
        place.followers = ((partial(done.append, number), loop.create_future()),)
        raises_at(number, lambda place=place: line.leave(place))  # type: ignore[misc]
        line.leave(place)  # twice is fine
    assert done[-1] == _MOST_CALLS - 1
    assert await line.in_turn(lambda: "at last") == "at last"


@pytest.mark.parametrize("raised", [ValueError(), SystemExit()])
async def test_a_line_goes_on_after_an_action_that_raises(raised: BaseException) -> None:
    def fail() -> None:
        raise raised

    line = EmitLine()
    first, second = line.enter(), line.enter()
    loop = asyncio.get_running_loop()
    done: list[str] = []
    first_done: asyncio.Future[None] = loop.create_future()
    first.followers += ((fail, first_done), (lambda: done.append("behind it"), loop.create_future()))
    second.followers += ((lambda: done.append("behind the second"), loop.create_future()),)
    try:
        line.leave(first)
    except SystemExit:
        assert isinstance(raised, SystemExit)
    line.leave(second)
    assert done == ["behind it", "behind the second"]
    assert first_done.exception() is raised
    assert await line.in_turn(lambda: "at last") == "at last"


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
async def test_a_settler_stores_on_after_a_call_that_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waypost.server.queues.settler.STORE_RETRIES", RetryPolicy(0.01, 0.01))
    stored: list[list[int]] = []

    class Queue:
        name = "q"

        async def settle(self, consumer: str, epoch: int, positions: list[int]) -> Any:
            if not stored:
                stored.append([])
                raise ValueError("of the store's own")
            stored.append(positions)

    tasks: set[asyncio.Task[Any]] = set()
    settler = Settler(Queue(), "c", 1, lambda _: None, lambda: None, tasks.add)  # type: ignore[arg-type]
    positions = list(range(1, 1_000))
    at_each_call(lambda: settler.settle(positions.pop()))
    await until(lambda: settler.pending == frozenset(), "all is stored")
    assert stored[1]
