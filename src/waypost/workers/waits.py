"""Waits for workers: until they have come to a step, or have ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any, TypeAlias

from waypost.logs import fields, get_logger
from waypost.workers.messages import BEAT_EVERY_S
from waypost.workers.worker import Worker

__all__ = ["Step", "all_ended", "first_that_failed", "kill_the_stuck", "listening_of", "start_of"]

logger = get_logger("waypost.workers")

Step: TypeAlias = Callable[[Worker], "asyncio.Future[Any]"]
"""Returns the future of a worker's step, which is false if the worker has ended before it."""

_STUCK_AT_STOP_S = 10.0
"""A worker whose event loop stands still for so long during a stop is killed: it would never end."""


def start_of(worker: Worker) -> asyncio.Future[Any]:
    """Return the step of a worker whose store is open."""
    return worker.started


def listening_of(worker: Worker) -> asyncio.Future[Any]:
    """Return the step of a worker that accepts clients."""
    return worker.listening


async def first_that_failed(workers: Collection[Worker], step: Step) -> Worker | None:
    """Wait until all have come to a step, or one has ended before; returns that one."""
    waiting = {step(one): one for one in workers}
    while waiting:
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for one in done:
            worker = waiting.pop(one)
            if not one.result():
                return worker
    return None


async def kill_the_stuck(workers: Collection[Worker]) -> None:
    """Kill each worker whose event loop stands still for too long while it should end. Runs until it is cancelled."""
    while True:
        await asyncio.sleep(BEAT_EVERY_S)
        for one in workers:
            if not one.ended.done() and one.silent_s >= _STUCK_AT_STOP_S:
                logger.error(
                    "%s: its event loop has stood still for %.0f s; it is killed",
                    one,
                    one.silent_s,
                    extra=fields(worker=one.number, seconds=one.silent_s),
                )
                one.kill()


async def all_ended(workers: Collection[Worker], timeout_s: float | None = None) -> None:
    """Wait until all have ended, or a time is over."""
    if workers:
        await asyncio.wait([one.ended for one in workers], timeout=timeout_s)
