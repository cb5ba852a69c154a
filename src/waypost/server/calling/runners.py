"""The tasks in which the application's handlers run."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from types import coroutine
from typing import Any

from waypost.server.basics.write_turn import WriteTurn

__all__ = ["Runners"]

Work = Callable[[], Coroutine[Any, Any, None]]


class Runners:
    """Runs work in tasks, with as few of them as will do.

    Work that does not wait shares a task with what came in the same turn of the event loop; a task costs more than
    a short handler. Work that waits keeps its task to its end, and what was queued behind it gets another one at
    once. Each piece of work has a context of its own, so that no context variable is seen by another's.

    Args:
        keep_task: Holds on to a task until it is done.
        turn: The turns in which they run: what they write goes out when they have begun.
    """

    __slots__ = ("_is_starting", "_keep_task", "_queue", "_turn")

    def __init__(self, keep_task: Callable[[asyncio.Task[Any]], None], turn: WriteTurn) -> None:
        self._keep_task = keep_task
        self._turn = turn
        self._queue: deque[tuple[Context, Work]] = deque()
        self._is_starting = False

    def submit(self, work: Work) -> None:
        """Run something soon, after all that was submitted before has begun. If this raises, it is not run."""
        entry = copy_context(), work
        if not self._is_starting:
            self._start()
        self._queue.append(entry)

    def _start(self) -> None:
        # In this order, since each step may raise (at the depth of the stack, for one): nobody's work would ever
        # run again if it were noted that a task is starting, and nothing told when it has.
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._run())
        # The loop keeps the order: this is called when the task has done all that can be done without waiting.
        loop.call_soon(self._started)
        self._is_starting = True
        self._turn.promise_end()
        self._keep_task(task)

    def _started(self) -> None:
        self._is_starting = False
        try:
            self._turn.end()
        finally:
            if self._queue:
                self._start()

    async def _run(self) -> None:
        # If it waits, is cancelled, or fails, `_started` gives the others' work another task.
        while self._queue:
            context, work = self._queue.popleft()
            await _run_in(context, work())


@coroutine
def _run_in(context: Context, work: Coroutine[Any, Any, None]) -> Generator[Any, Any, None]:
    """Await something whose every step sees a context of its own."""
    step: Callable[[Any], Any] = work.send
    argument: Any = None
    while True:
        try:
            awaited = context.run(step, argument)
        except StopIteration:
            return
        try:
            step, argument = work.send, (yield awaited)
        except BaseException as error:  # noqa: BLE001  # what the task is told, cancellation above all, is the work's to handle
            step, argument = work.throw, error
