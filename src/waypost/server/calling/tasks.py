"""The running tasks of a server, and their end when it stops."""

from __future__ import annotations

import asyncio
from typing import Any

from waypost.logs import fields, get_logger
from waypost.server.basics.deadline import Deadline

__all__ = ["Tasks"]

logger = get_logger("waypost.server")

_TIMEOUT_S = 5.0


class Tasks:
    """The tasks that a server waits for before it stops."""

    __slots__ = ("_tasks",)

    def __init__(self) -> None:
        # A dict keeps the order, so that each run of a simulation cancels tasks in the same order.
        self._tasks: dict[asyncio.Task[Any], None] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Keep a reference to a task until it is done."""
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)

    def forget(self) -> None:
        """Forget the tasks that even a cancellation did not end."""
        for task in self._tasks:
            task.remove_done_callback(self._tasks.pop)
        self._tasks = {}

    async def finish(self, deadline: Deadline) -> None:
        """Wait for all tasks until a deadline; then cancel the others and wait up to 5 s for those."""
        await deadline.wait_for(lambda: self._tasks)
        if self._tasks:
            logger.warning(
                "%d handlers were still running and are cancelled",
                len(self._tasks),
                extra=fields(count=len(self._tasks)),
            )
        loop = asyncio.get_running_loop()
        ends = loop.time() + _TIMEOUT_S
        while self._tasks and (left_s := ends - loop.time()) > 0:
            for task in list(self._tasks):
                task.cancel()
            await asyncio.wait(self._tasks, timeout=left_s)
