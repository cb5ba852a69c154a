"""What becomes of a message that was not acknowledged: tried again, and when, or given up. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from waypost.server.queues.options import QueueOptions

__all__ = ["Blame", "Rejection", "Verdict", "judge", "read_rejection"]

_LONGEST_REASON = 500
_MOST_DOUBLINGS = 30
_LONGEST_PAUSE_S = 1e9


class Blame(StrEnum):
    """Why a delivery ended without an ack."""

    REJECTED = "rejected"
    EXPIRED = "expired"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Rejection:
    """A nack.

    Attributes:
        reason: Why, in words.
        retry_in_s: Seconds until it may come again; ``None`` leaves it to the queue's backoff.
    """

    reason: str
    retry_in_s: float | None = None


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
    pause_s = min(options.first_backoff_s * 2.0 ** min(failures - 1, _MOST_DOUBLINGS), options.max_backoff_s)
    return Verdict(failures, losses, pause_s * (1 + options.backoff_jitter * (2 * chance - 1)))


def read_rejection(arguments: list[Any]) -> Rejection | None:
    """Read the arguments of an ack.

    Args:
        arguments: What the client gave to the callback.

    Returns:
        What ``ack({nack: "why", retry_in: seconds})`` says; ``None`` for everything else, which acknowledges. People
        write ``ack("ok")``, and ``ack({status: "ok"})``.
    """
    if len(arguments) != 1 or not isinstance(arguments[0], dict):
        return None
    reason = arguments[0].get("nack")
    if not reason:
        return None
    text = reason if isinstance(reason, str) else "rejected"
    return Rejection(text[:_LONGEST_REASON], _seconds(arguments[0].get("retry_in")))


def _seconds(value: object) -> float | None:
    # NaN compares false, and a whole number may be too large for a float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LONGEST_PAUSE_S:
        return None
    return float(value)
