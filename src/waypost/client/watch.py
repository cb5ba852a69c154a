"""Notices when a server has been silent for too long, also when it was this machine that slept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

__all__ = ["Watch"]

_GRACE_S = 0.05


def _now() -> float:
    """Seconds, those included for which the machine slept, where the system counts them."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class Watch:
    """Counts the time in which something is awaited.

    Args:
        limit_s: Seconds that may pass.
        on_silence: Called when they have.
    """

    __slots__ = ("_is_last_look", "_limit_s", "_on_silence", "_since", "_timer")

    def __init__(self, limit_s: float, on_silence: Callable[[], None]) -> None:
        self._limit_s = limit_s
        self._on_silence = on_silence
        self._since: float | None = None
        self._is_last_look = False
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Begin to wait."""
        self._since = _now()
        if self._timer is None:
            self._arm(self._limit_s)

    def pause(self) -> None:
        """Something came, and nothing is awaited until `begin`."""
        self._since = None

    def stop(self) -> None:
        """Wait for nothing any more."""
        self._since = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def is_overdue(self) -> bool:
        """Tell whether what is awaited should have come: then nothing is to be sent, for nobody may be there."""
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
            self._arm(_GRACE_S, is_last_look=True)  # what came while this process stood still is read first
