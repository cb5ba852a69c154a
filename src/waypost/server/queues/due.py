"""Releases delayed messages when they are due, and finds what other programs have changed in the store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from waypost.logs import fields, get_logger
from waypost.server.queues.work_loop import WorkLoop
from waypost.storage.base import Store
from waypost.storage.clock import LONGEST_SLEEP_S
from waypost.storage.queue_records import Due

__all__ = ["DueTimer"]

logger = get_logger("waypost.queue")


class DueTimer:
    """Asks the store for due messages when the next one falls due.

    Args:
        store: Returns the store.
        keep_task: Holds on to a task until it is done.
        released: Called with the queues that have new messages.
    """

    def __init__(
        self,
        store: Callable[[], Store],
        keep_task: Callable[[asyncio.Task[Any]], None],
        released: Callable[[Due], Awaitable[None]],
    ) -> None:
        self._store = store
        self._keep_task = keep_task
        self._released = released
        # Made at the first use, as it belongs to an event loop.
        self._work: WorkLoop | None = None
        self._due_at: float | None = None
        # What the store has released and changed, and nobody was told yet: it reports each of them once.
        self._untold = Due(frozenset(), None)

    def arm(self, due_at: float) -> None:
        """Ask the store at a time on its clock, when a message is due."""
        work = self._working()
        if work.is_stopped or (self._due_at is not None and self._due_at <= due_at):
            return
        self._due_at = due_at
        work.wake_in(min(due_at - self._store().clock.now(), LONGEST_SLEEP_S))

    def look(self) -> None:
        """Ask the store now."""
        self._working().wake()

    def stop(self) -> None:
        """Stop asking."""
        self._working().stop()

    def _working(self) -> WorkLoop:
        if self._work is None:
            self._work = WorkLoop(self._release, self._halted, self._keep_task)
        return self._work

    async def _release(self) -> None:
        # A message that is not due yet sets the time anew.
        self._due_at = None
        self._working().cancel_alarm()
        due = await self._store().release_due()
        if due.next_at is not None:
            self.arm(due.next_at)
        self._untold = Due(self._untold.queues | due.queues, None, self._untold.changed | due.changed)
        await self._released(self._untold)
        self._untold = Due(frozenset(), None)

    def _halted(self, problem: Exception, pause_s: float) -> None:
        logger.error(
            "messages that are due have to wait %.1f s more: %s", pause_s, problem, extra=fields(seconds=pause_s)
        )
        self._due_at = self._store().clock.now() + pause_s
