"""Lets messages with a delay into their queues when they are due, and looks for what other programs have changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from waypost.errors import StorageError
from waypost.server.queues.work_loop import WorkLoop
from waypost.storage.base import Store
from waypost.storage.queue_records import Due

__all__ = ["DueTimer"]

logger = logging.getLogger("waypost.queue")

_LONGEST_SLEEP_S = 3600.0
"""No timer is longer: the wall clock may be set meanwhile."""


class DueTimer:
    """Wakes the store when the next message is due.

    Args:
        store: Gives the store.
        wall_time: The time of day, in seconds since 1970.
        keep_task: Holds on to a task until it is done.
        released: Told of the queues that have something new.
    """

    def __init__(
        self,
        store: Callable[[], Store],
        wall_time: Callable[[], float],
        keep_task: Callable[[asyncio.Task[Any]], None],
        released: Callable[[Due], Awaitable[None]],
    ) -> None:
        self._store = store
        self._wall_time = wall_time
        self._keep_task = keep_task
        self._released = released
        # Made with the first use, as it belongs to an event loop.
        self._work: WorkLoop | None = None
        self._due_at: float | None = None

    def arm(self, due_at: float) -> None:
        """Look when a message is due, at a wall time in seconds."""
        work = self._working()
        if work.is_stopped or (self._due_at is not None and self._due_at <= due_at):
            return
        self._due_at = due_at
        work.wake_in(min(due_at - self._wall_time(), _LONGEST_SLEEP_S))

    def look(self) -> None:
        """Look now."""
        self._working().wake()

    def stop(self) -> None:
        """Look no more."""
        self._working().stop()

    def _working(self) -> WorkLoop:
        if self._work is None:
            self._work = WorkLoop(self._release, self._halted, self._keep_task)
        return self._work

    async def _release(self) -> None:
        # Whatever this does not find due is armed anew.
        self._due_at = None
        self._working().cancel_alarm()
        due = await self._store().release_due()
        if due.next_at is not None:
            self.arm(due.next_at)
        await self._released(due)

    def _halted(self, problem: StorageError, pause_s: float) -> None:
        logger.error("messages that are due have to wait %.1f s more: %s", pause_s, problem)
        self._due_at = self._wall_time() + pause_s
