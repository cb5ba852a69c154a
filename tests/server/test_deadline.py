"""A time limit that may be shortened while somebody waits."""

from __future__ import annotations

import asyncio

from waypost.server.basics.deadline import Deadline


async def _for_ever() -> None:
    await asyncio.Event().wait()


async def test_whatever_ends_in_time_is_waited_for_with_what_it_starts() -> None:
    deadline = Deadline()
    deadline.end_within(60)
    tasks: set[asyncio.Task[None]] = set()

    async def first() -> None:
        tasks.add(asyncio.create_task(asyncio.sleep(0)))

    tasks.add(asyncio.create_task(first()))
    await deadline.wait_for(lambda: [task for task in tasks if not task.done()])
    assert len(tasks) == 2
    assert not deadline.is_hurried


async def test_a_shorter_limit_counts_at_once_and_a_longer_one_never() -> None:
    deadline = Deadline()
    deadline.end_within(60)
    deadline.end_within(600)
    assert not deadline.is_hurried
    task = asyncio.create_task(_for_ever())
    waiting = asyncio.create_task(deadline.wait_for(lambda: [task]))
    await asyncio.sleep(0)
    deadline.end_within(0)
    await asyncio.wait_for(waiting, 30)
    deadline.leave(60)
    await asyncio.wait_for(deadline.wait_for(lambda: [task]), 30)
    assert not task.done()
    task.cancel()


async def test_time_may_be_left_for_what_comes_later() -> None:
    deadline = Deadline()
    deadline.end_within(0)
    deadline.leave(60)
    task = asyncio.create_task(asyncio.sleep(0.01))
    await deadline.wait_for(lambda: [] if task.done() else [task])
    assert task.done()
