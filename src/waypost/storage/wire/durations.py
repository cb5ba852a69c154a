"""Times that a node asks for: they pass over the link as durations, to which the host adds its own clock.

So the time for which a request waits for a host that is away, and a difference between the two clocks, make no pause
shorter. Times that the store has set itself, and points in time that an application names, pass as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from waypost.storage.queue_records import Attempt

__all__ = ["attempts_at", "attempts_from"]


def attempts_from(attempts: Sequence[Attempt], now: float) -> list[Attempt]:
    """Return attempts with durations from now in place of times.

    Args:
        attempts: The attempts.
        now: The time on the sender's clock of the store, in seconds.
    """
    return [_moved(one, -now) for one in attempts]


def attempts_at(attempts: Sequence[Attempt], now: float) -> list[Attempt]:
    """Return attempts with times in place of durations; the opposite of `attempts_from`, by the receiver's clock."""
    return [_moved(one, now) for one in attempts]


def _moved(attempt: Attempt, by: float) -> Attempt:
    # 0 is no time, but "at once".
    retry_at = attempt.retry_at + by if attempt.retry_at else 0.0
    return replace(attempt, at=attempt.at + by, retry_at=retry_at)
