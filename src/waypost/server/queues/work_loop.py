"""A loop that has a task only while there is work, and repeats a round that failed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import Any

from waypost.errors import StorageError, StoreClosed
from waypost.logs import get_logger
from waypost.retrying import STORE_RETRIES, Backoff

__all__ = ["WorkLoop"]

logger = get_logger("waypost.queue")


class _State(Enum):
    IDLE = auto()
    """There is no work and no task."""
    WORKING = auto()
    """The task runs a round, and ends after it."""
    WOKEN = auto()
    """The task runs another round: there is work that came after the present round began."""
    STOPPED = auto()
    """No round begins any more."""


# Each message wakes a loop, and Python 3.11 takes as long as for a call to find a member in its class.
_IDLE, _WORKING, _WOKEN, _STOPPED = _State


class WorkLoop:
    """Runs rounds of work one after the other.

    After a round that failed, the next round begins after a pause by `STORE_RETRIES`, or at the next `wake`. After a
    round in which the store was closed, it begins at the next `wake`.

    A round that waits for the store may name a function that `wake` calls meanwhile; see `wait_for`.

    Args:
        run_round: Does the work; may raise `StorageError`.
        halted: Called with the error and the seconds until the next round.
        keep_task: Holds on to a task until it is done.
    """

    __slots__ = (
        "_alarm",
        "_backoff",
        "_halted",
        "_keep_task",
        "_loop",
        "_meanwhile",
        "_meanwhile_call",
        "_run_round",
        "_state",
    )

    def __init__(
        self,
        run_round: Callable[[], Awaitable[None]],
        halted: Callable[[Exception, float], None],
        keep_task: Callable[[asyncio.Task[Any]], None],
    ) -> None:
        self._run_round = run_round
        self._halted = halted
        self._keep_task = keep_task
        self._loop = asyncio.get_running_loop()
        self._state: _State = _IDLE
        self._backoff = Backoff(STORE_RETRIES)
        self._alarm: asyncio.TimerHandle | None = None
        self._meanwhile: Callable[[], None] | None = None
        self._meanwhile_call: asyncio.Handle | None = None

    @property
    def is_stopped(self) -> bool:
        """True after `stop`."""
        return self._state is _STOPPED

    def wake(self) -> None:
        """Run a round now, or after the present one."""
        if self._state is _IDLE:
            task = self._loop.create_task(self._work())
            self._state = _WOKEN
            self._keep_task(task)
        elif self._state is _WORKING:
            self._state = _WOKEN
        if self._meanwhile is not None and self._meanwhile_call is None:
            self._meanwhile_call = self._loop.call_soon(self._call_meanwhile)

    async def wait_for(self, answer: Awaitable[None], meanwhile: Callable[[], None]) -> None:
        """Await the store's answer within a round. Each `wake` until then calls ``meanwhile`` soon.

        Raises:
            StorageError: The store did not answer.
        """
        self._meanwhile = meanwhile
        try:
            await answer
        finally:
            self._meanwhile = None

    def wake_in(self, seconds: float) -> None:
        """Wake after some seconds; this replaces the time of an earlier call."""
        self.cancel_alarm()
        self._alarm = self._loop.call_later(max(seconds, 0.0), self._ring)

    def cancel_alarm(self) -> None:
        """Cancel `wake_in`."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def stop(self) -> None:
        """Let the present round be the last one."""
        self._state = _STOPPED
        self.cancel_alarm()

    async def _work(self) -> None:
        try:
            while self._state is _WOKEN:
                self._state = _WORKING
                try:
                    await self._run_round()
                    self._backoff.reset()
                except StoreClosed:
                    return
                except StorageError as problem:
                    self._halt(problem)
                except Exception as fault:
                    # Nothing else might ever wake the loop, and all its work would stand still.
                    logger.exception("a round of deliveries failed")
                    self._halt(fault)
        finally:
            if self._state is not _STOPPED:
                self._state = _IDLE

    def _halt(self, problem: Exception) -> None:
        pause_s = self._backoff.next_s()
        self._halted(problem, pause_s)
        if self._state is not _STOPPED:
            self.wake_in(pause_s)

    def _call_meanwhile(self) -> None:
        self._meanwhile_call = None
        if self._meanwhile is not None:
            self._meanwhile()

    def _ring(self) -> None:
        self._alarm = None
        self.wake()
