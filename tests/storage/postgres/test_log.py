"""The log of a journal when the engine has lost what was applied: what was done before is not waited for."""

from __future__ import annotations

import asyncio

from waypost.storage.postgres.journals.log import Batch, Done, Log, State
from waypost.storage.postgres.lanes import Mark, Write
from waypost.storage.tail import Tail


class _Node:
    id = 1
    incarnation = 1

    async def renew(self, old: int) -> int:
        raise AssertionError("nothing is in doubt here")


def log_at(tick: int) -> Log:
    state = State(1, tick, tick, 0, 1, 0, "first", {})
    return Log("/", _Node(), state, Tail(tick, max_bytes=1000), lambda _: None, lambda _: None, lambda _: None)


def batch_at(tick: int) -> tuple[Batch, asyncio.Future[Done]]:
    future: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
    write: Write[Done] = Write("append an event to /", b"x", lambda _: None, future, 1)
    return Batch(Mark(1, 1, tick), [write], tick, tick, [Done(tick, {}, b"")]), future


async def test_a_call_that_was_done_in_a_lost_history_is_not_waited_for() -> None:
    log = log_at(10)
    # A row of another node stands between, which this node has not read.
    batch, future = batch_at(12)
    log.add_batch(batch)
    waiting = asyncio.ensure_future(log.wait_for(log.own_end))
    await asyncio.sleep(0)
    assert not waiting.done()
    log.fork()
    log.begin(State(1, 4, 4, 0, 1, 0, "second", {"first": 4}))
    await asyncio.wait_for(waiting, 5)
    assert (await future).position == 12
    assert (log.own_end, log.applied, log.top) == (0, 4, 4)
    later, appended = batch_at(5)
    log.add_batch(later)
    assert (await appended).position == 5
    assert log.applied == 5


async def test_a_log_that_has_only_jumped_keeps_what_comes_behind() -> None:
    log = log_at(10)
    batch, future = batch_at(22)
    log.add_batch(batch)
    log.is_forked = True
    log.begin(State(1, 21, 21, 0, 20, 0, "first", {}))
    assert not future.done()
    assert log.own_end == 22
