"""Decides about a message that was not acknowledged: a further attempt after a pause, or a dead letter. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from waypost.retrying import RetryPolicy
from waypost.server.queues.options import QueueOptions

__all__ = ["Blame", "Verdict", "judge"]


class Blame(StrEnum):
    """The cause of a delivery's end without an ack."""

    REJECTED = "rejected"
    EXPIRED = "expired"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision about a message.

    Attributes:
        failures: The number of its failures by now.
        losses: The number of its lost connections by now.
        delay_s: Seconds until the next attempt; ``None`` if the message is given up.
    """

    failures: int
    losses: int
    delay_s: float | None


def judge(
    blame: Blame, *, failures: int, losses: int, retry_in_s: float | None, options: QueueOptions, chance: float
) -> Verdict:
    """Count a delivery that ended without an ack, and decide about its message.

    Args:
        blame: The cause of the end.
        failures: The number of the message's failures before.
        losses: The number of its lost connections before.
        retry_in_s: The pause that the nack asked for, in seconds; ``None`` for the queue's backoff.
        options: The queue's options.
        chance: A random number from 0 to 1, for the jitter.

    Returns:
        The new counters, and the pause. After a lost connection there is no pause: the next taker gets the message.
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
