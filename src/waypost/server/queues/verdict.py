"""What becomes of a message that was not acknowledged: tried again, and when, or given up. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from waypost.retrying import RetryPolicy
from waypost.server.queues.options import QueueOptions

__all__ = ["Blame", "Verdict", "judge"]


class Blame(StrEnum):
    """Why a delivery ended without an ack."""

    REJECTED = "rejected"
    EXPIRED = "expired"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a message.

    Attributes:
        failures: How often it has failed by now.
        losses: How often a connection was lost on it by now.
        delay_s: Seconds until it is tried again; ``None`` if it is given up.
    """

    failures: int
    losses: int
    delay_s: float | None


def judge(
    blame: Blame, *, failures: int, losses: int, retry_in_s: float | None, options: QueueOptions, chance: float
) -> Verdict:
    """Count a delivery that ended without an ack, and decide what comes next.

    Args:
        blame: What ended it.
        failures: How often the message had failed before.
        losses: How often a connection had been lost on it before.
        retry_in_s: The pause that whoever rejected it asked for, in seconds; ``None`` for the queue's backoff.
        options: The queue's.
        chance: A number from 0 up to 1, for the jitter.

    Returns:
        The new counters, and the pause. A lost connection costs no pause: whoever is there next gets the message.
    """
    if blame is Blame.LOST:
        losses += 1
    else:
        failures += 1
    if failures >= options.max_failures or failures + losses >= options.max_deliveries:
        return Verdict(failures, losses, None)
    if blame is Blame.LOST:
        return Verdict(failures, losses, 0.0)
    if retry_in_s is not None:
        return Verdict(failures, losses, min(retry_in_s, options.max_age_s))
    retries = RetryPolicy(options.first_backoff_s, options.max_backoff_s, options.backoff_jitter)
    return Verdict(failures, losses, retries.pause_s(failures, chance))
