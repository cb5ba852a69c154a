"""The store's clock: durations are measured on it, so that a step of the wall clock ends and delays nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

from waypost.logs import fields, get_logger

__all__ = ["LONGEST_SLEEP_S", "StoreClock", "steady_clock"]

_logger = get_logger(__name__)

LONGEST_SLEEP_S = 30.0
"""The longest time for which a timer sleeps: timers stand still with the machine, and the clocks do not."""

_OFF_S = 5.0
"""A wall clock that is off by more than this is told of, and allowed for when times are shown."""


def steady_clock() -> Callable[[], float]:
    """Return the machine's clock that nobody sets, and that goes on while the machine sleeps."""
    # Linux, macOS; that of Windows, and where there is no better one.
    for name in ("CLOCK_BOOTTIME", "CLOCK_MONOTONIC_RAW") if sys.platform in ("linux", "darwin") else ():
        clock: int | None = getattr(time, name, None)
        if clock is not None:
            return partial(time.clock_gettime, clock)
    return time.monotonic


class StoreClock:
    """A clock that begins with the wall clock, then goes on by itself, and never goes back.

    It is read in any thread. Times on it are seconds, as on the wall clock, from which it may be apart; `to_wall` and
    `from_wall` convert.

    Args:
        wall_time: The wall clock, in seconds since 1970.
        steady_time: A clock that nobody sets, in seconds; ``None``: the machine's, or ``wall_time`` itself if that is
            not the machine's: a simulation then has one clock for both.

    Attributes:
        ahead_s: By how many seconds the clock is ahead of the wall clock, as of the last `look`; 0 while these are no
            more than 5 s.
    """

    __slots__ = ("_offset", "_steady_time", "_wall_time", "ahead_s")

    def __init__(
        self, wall_time: Callable[[], float] = time.time, steady_time: Callable[[], float] | None = None
    ) -> None:
        if steady_time is None:
            steady_time = steady_clock() if wall_time is time.time else wall_time
        self.ahead_s = 0.0
        self._wall_time = wall_time
        self._steady_time = steady_time
        self.begin()

    def begin(self, noted: float = 0.0, ahead_s: float = 0.0) -> None:
        """Begin with the later of the wall clock and the last noted value.

        Args:
            noted: A time on the clock of an earlier opening, or of another process, after which it goes on.
            ahead_s: By how much that clock was ahead of the wall clock, if it is to be followed.
        """
        self._offset = max(self._wall_time() + ahead_s, noted) - self._steady_time()
        self.ahead_s = ahead_s

    def follow(self, now: float, ahead_s: float) -> None:
        """Go on with the time of another process's clock, which measures the same store.

        Args:
            now: The other clock's time, in seconds.
            ahead_s: By how much it is ahead of the wall clock.
        """
        self._offset = now - self._steady_time()
        self.ahead_s = ahead_s

    def catch_up(self, now: float, ahead_s: float) -> None:
        """Go on to a time that another process's clock had a moment ago; arguments as for `follow`."""
        self._offset = max(self._offset, now - self._steady_time())
        self.ahead_s = ahead_s

    def now(self) -> float:
        """Return the time, in seconds."""
        return self._offset + self._steady_time()

    def wall(self) -> float:
        """Return the time of day, in seconds since 1970."""
        return self._wall_time()

    def to_wall(self, at: float) -> float:
        """Return the time of day that was as long ago as a time on this clock."""
        return at - self.ahead_s

    def from_wall(self, at: float) -> float:
        """Return the time on this clock that was as long ago as a time of day."""
        return at + self.ahead_s

    def look(self, name: str) -> bool:
        """Compare with the wall clock, and log a step of it once.

        Args:
            name: The store, for the log.

        Returns:
            Whether ``ahead_s`` has changed.
        """
        ahead_s = self.now() - self._wall_time()
        if abs(ahead_s - self.ahead_s) <= _OFF_S:
            return False
        self.ahead_s = 0.0 if abs(ahead_s) <= _OFF_S else ahead_s
        if self.ahead_s:
            _logger.warning(
                "%s: the wall clock is %.0f s %s the store's clock, which goes on as before: leases, delays and ages "
                "are measured on that; if the wall clock is wrong now, set it",
                name, abs(ahead_s), "behind" if ahead_s > 0 else "ahead of",
                extra=fields(store=name, seconds=abs(ahead_s)),
            )  # fmt: skip
        else:
            _logger.info("%s: the wall clock agrees with the store's clock again", name, extra=fields(store=name))
        return True
