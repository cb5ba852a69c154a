"""The tasks in which handlers run: their order, who shares one, and that nobody disturbs another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any

import pytest

from tests.support.waiting import until
from waypost.server.basics.write_turn import WriteTurn
from waypost.server.calling.runners import Runners

pytestmark = pytest.mark.asyncio

NAME: ContextVar[str] = ContextVar("NAME", default="")


class Bench:
    """Runners, and what became of the work."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[Any]] = []
        self.turn = WriteTurn()
        self.runners = Runners(self.tasks.append, self.turn)
        self.log: list[Any] = []

    def note(self, *entries: Any) -> Callable[[], Coroutine[Any, Any, None]]:
        async def work() -> None:
            self.log.extend(entries)

        return work

    def wait(self, name: str, until: asyncio.Event) -> Callable[[], Coroutine[Any, Any, None]]:
        async def work() -> None:
            self.log.append(f"{name} begins")
            try:
                await until.wait()
            except asyncio.CancelledError:
                self.log.append(f"{name} is cancelled")
                raise
            self.log.append(f"{name} ends")

        return work


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_what_does_not_wait_shares_one_task_in_order(bench: Bench) -> None:
    for number in range(100):
        bench.runners.submit(bench.note(number))
    assert bench.log == []
    await until(lambda: len(bench.log) == 100, "all have run")
    assert bench.log == list(range(100))
    assert len(bench.tasks) == 1


async def test_what_waits_holds_up_nobody(bench: Bench) -> None:
    go = asyncio.Event()
    for work in (bench.wait("a", go), bench.note("b"), bench.wait("c", go), bench.note("d")):
        bench.runners.submit(work)
    await until(lambda: "d" in bench.log, "those that do not wait have run")
    assert bench.log == ["a begins", "b", "c begins", "d"]
    bench.runners.submit(bench.note("later"))
    await until(lambda: "later" in bench.log, "so has what came later")
    go.set()
    await asyncio.gather(*bench.tasks)
    assert sorted(bench.log[-2:]) == ["a ends", "c ends"]


async def test_work_that_submits_work(bench: Bench) -> None:
    async def outer() -> None:
        bench.runners.submit(bench.note("inner"))
        bench.log.append("outer")

    bench.runners.submit(outer)
    bench.runners.submit(bench.note("beside"))
    await until(lambda: len(bench.log) == 3, "all have run")
    assert bench.log == ["outer", "beside", "inner"]


async def test_contexts_are_apart(bench: Bench) -> None:
    both = asyncio.Event()

    def named(name: str) -> Callable[[], Coroutine[Any, Any, None]]:
        async def work() -> None:
            bench.log.append(NAME.get())
            NAME.set(name)
            await both.wait()
            await asyncio.sleep(0)
            bench.log.append(NAME.get())

        return work

    NAME.set("from outside")
    for name in ("a", "b"):
        bench.runners.submit(named(name))
    await until(lambda: len(bench.log) == 2, "both wait")
    both.set()
    await until(lambda: len(bench.log) == 4, "both are done")
    assert bench.log == ["from outside", "from outside", "a", "b"]
    assert NAME.get() == "from outside"


async def test_contexts_are_apart_in_a_shared_task(bench: Bench) -> None:
    async def look_and_set() -> None:
        bench.log.append(NAME.get())
        NAME.set("seen by nobody")

    for name in ("a", "b"):
        NAME.set(name)
        bench.runners.submit(look_and_set)
    await until(lambda: len(bench.log) == 2, "both have run")
    assert bench.log == ["a", "b"]
    assert len(bench.tasks) == 1


async def test_one_that_is_cancelled_leaves_the_others(bench: Bench) -> None:
    never = asyncio.Event()
    bench.runners.submit(bench.wait("a", never))
    bench.runners.submit(bench.note("b"))
    await until(lambda: "b" in bench.log, "both have begun")
    bench.tasks[0].cancel()
    bench.runners.submit(bench.note("c"))
    await until(lambda: "c" in bench.log and bench.tasks[0].done(), "the rest has run")
    assert bench.tasks[0].cancelled()
    assert "a is cancelled" in bench.log


async def test_a_task_that_is_cancelled_before_it_begins_loses_no_work(bench: Bench) -> None:
    bench.runners.submit(bench.note("a"))
    bench.runners.submit(bench.note("b"))
    bench.tasks[0].cancel()
    await until(lambda: bench.log == ["a", "b"], "both have run")


async def test_an_exception_ends_its_task_and_no_other_work(bench: Bench) -> None:
    async def fail() -> None:
        raise ValueError("of the work's own")

    for work in (bench.note("a"), fail, bench.note("b")):
        bench.runners.submit(work)
    await until(lambda: "b" in bench.log, "all have run")
    assert bench.log == ["a", "b"]
    with pytest.raises(ValueError, match="of the work's own"):
        await bench.tasks[0]


async def test_what_the_work_awaits_may_fail(bench: Bench) -> None:
    async def work() -> None:
        try:
            await failing
        except ValueError as error:
            bench.log.append(str(error))
        await asyncio.sleep(0)
        bench.log.append("goes on")

    failing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    bench.runners.submit(work)
    await asyncio.sleep(0)
    failing.set_exception(ValueError("told"))
    await until(lambda: len(bench.log) == 2, "it has gone on")
    assert bench.log == ["told", "goes on"]


async def test_what_is_written_goes_out_when_all_have_begun(bench: Bench) -> None:
    class Writing:
        def write_out(self) -> None:
            bench.log.append("written")

    async def write() -> None:
        bench.turn.add(Writing())
        bench.log.append("writes")

    bench.runners.submit(write)
    bench.runners.submit(write)
    await until(lambda: len(bench.log) == 4, "both have written")
    assert bench.log == ["writes", "writes", "written", "written"]
