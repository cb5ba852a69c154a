"""Detects a server that is silent for too long, also after this machine has slept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

__all__ = ["Watch"]

_GRACE_S = 0.05


def _now() -> float:
    """Return the time in seconds, the machine's sleep included, where the system counts it."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class Watch:
    """Limits the time that the client waits for the server.

    Args:
        limit_s: The longest wait, in seconds.
        on_silence: Called when the wait has taken longer.
    """

    __slots__ = ("_is_last_look", "_limit_s", "_on_silence", "_since", "_timer")

    def __init__(self, limit_s: float, on_silence: Callable[[], None]) -> None:
        self._limit_s = limit_s
        self._on_silence = on_silence
        self._since: float | None = None
        self._is_last_look = False
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Start waiting."""
        self._since = _now()
        if self._timer is None:
            self._arm(self._limit_s)

    def pause(self) -> None:
        """Stop waiting, because something arrived, until the next `begin`."""
        self._since = None

    def stop(self) -> None:
        """Stop waiting for good."""
        self._since = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def is_overdue(self) -> bool:
        """Return whether the wait has taken too long; the server may be dead, so the client should send nothing."""
        overdue = self._since is not None and _now() - self._since >= self._limit_s
        if overdue and not self._is_last_look:
            self._arm(_GRACE_S, is_last_look=True)
        return overdue

    def _arm(self, delay_s: float, *, is_last_look: bool = False) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._is_last_look = is_last_look
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._look)

    def _look(self) -> None:
        was_last_look, self._is_last_look = self._is_last_look, False
        if self._since is None:
            self._arm(self._limit_s)
        elif self._limit_s > (waited_s := _now() - self._since):
            self._arm(self._limit_s - waited_s)
        elif was_last_look:
            self.stop()
            self._on_silence()
        else:
            # This process may have been suspended: first read what arrived in that time.
            self._arm(_GRACE_S, is_last_look=True)
