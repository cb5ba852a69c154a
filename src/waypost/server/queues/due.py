"""Lets messages with a delay into their queues when they are due, and looks for what other programs have changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from waypost.errors import StorageError, StoreClosed

if TYPE_CHECKING:
    from waypost.storage.base import Store
    from waypost.storage.queue_records import Due

__all__ = ["DueTimer"]

logger = logging.getLogger("waypost.queue")

_PAUSE_S = 1.0
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
        self._task: asyncio.Task[None] | None = None
        self._look_again = False
        self._timer: asyncio.TimerHandle | None = None
        self._due_at: float | None = None
        self._is_stopped = False

    def arm(self, due_at: float) -> None:
        """Look when a message is due, at a wall time in seconds."""
        if self._is_stopped or (self._due_at is not None and self._due_at <= due_at):
            return
        self._cancel()
        self._due_at = due_at
        delay_s = min(max(due_at - self._wall_time(), 0.0), _LONGEST_SLEEP_S)
        self._timer = asyncio.get_running_loop().call_later(delay_s, self.look)

    def look(self) -> None:
        """Look now."""
        self._cancel()
        self._look_again = True
        if self._task is None and not self._is_stopped:
            self._task = asyncio.get_running_loop().create_task(self._release())
            self._keep_task(self._task)

    def stop(self) -> None:
        """Look no more."""
        self._is_stopped = True
        self._cancel()

    def _cancel(self) -> None:
        self._due_at = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _release(self) -> None:
        try:
            while self._look_again and not self._is_stopped:
                self._look_again = False
                due = await self._store().release_due()
                if due.next_at is not None:
                    self.arm(due.next_at)
                await self._released(due)
        except StoreClosed:
            return
        except StorageError as problem:
            logger.error("messages that are due have to wait %.1f s more: %s", _PAUSE_S, problem)
            self.arm(self._wall_time() + _PAUSE_S)
        finally:
            self._task = None
