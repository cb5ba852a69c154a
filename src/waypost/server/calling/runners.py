"""The tasks that run the application's handlers."""

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
    """Runs work in tasks, with as few tasks as possible.

    A task costs more than a short handler. So all work of one iteration of the event loop shares a task, until one
    piece waits. That piece keeps the task until its end, and the work after it gets a new task at once. Each piece of
    work has its own context, so context variables do not leak.

    Args:
        keep_task: Keeps a task until it is done.
        turn: Collects the writes of the work; they are written when the work has started.
    """

    __slots__ = ("_is_starting", "_keep_task", "_queue", "_turn")

    def __init__(self, keep_task: Callable[[asyncio.Task[Any]], None], turn: WriteTurn) -> None:
        self._keep_task = keep_task
        self._turn = turn
        self._queue: deque[tuple[Context, Work]] = deque()
        self._is_starting = False

    def submit(self, work: Work) -> None:
        """Run work soon, after all earlier work has started. If this call raises, the work is not run.

        Args:
            work: Returns the coroutine to run.
        """
        entry = copy_context(), work
        if not self._is_starting:
            self._start()
        self._queue.append(entry)

    def renew(self) -> None:
        """Drop all work: the event loop that would have run it may have ended."""
        self._queue.clear()
        self._is_starting = False

    def _start(self) -> None:
        # Each step may raise, such as a RecursionError. The flag is set after the steps that reset it later:
        # otherwise no work would ever run again.
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._run())
        # The loop keeps the order: this call comes after the task's first step, which ends at the first wait.
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
        # If a piece of work waits, is cancelled or fails, `_started` gives the rest a new task.
        while self._queue:
            context, work = self._queue.popleft()
            await _run_in(context, work())


@coroutine
def _run_in(context: Context, work: Coroutine[Any, Any, None]) -> Generator[Any, Any, None]:
    """Await a coroutine, with its own context for every step."""
    step: Callable[[Any], Any] = work.send
    argument: Any = None
    while True:
        try:
            awaited = context.run(step, argument)
        except StopIteration:
            return
        try:
            step, argument = work.send, (yield awaited)
        except BaseException as error:  # noqa: BLE001  # passed on: the work handles it, cancellation above all
            step, argument = work.throw, error
