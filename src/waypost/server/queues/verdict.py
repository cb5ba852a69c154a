"""Decides about a message that was not acknowledged: a further attempt after a pause, or a dead letter. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from waypost.retrying import RetryPolicy
from waypost.server.queues.options import QueueOptions
from waypost.storage.queue_records import Attempt, AttemptKind, MessageRow

__all__ = ["MOST_BREAKS", "UNDELIVERABLE", "Blame", "Verdict", "backoff_of", "cause_of", "is_spent", "judge"]

MOST_BREAKS = 5
"""A message is undeliverable after so many connections that broke in a row."""

UNDELIVERABLE = "undeliverable"
"""The reason of its dead letter."""

_MOST_DEATHS = 20


class Blame(StrEnum):
    """The cause of a delivery's end without an ack."""

    REJECTED = "rejected"
    EXPIRED = "expired"
    LOST = "lost"
    """The connection to a socket broke."""
    SILENT = "silent"
    """The client gave no sign of life over a connection for which a message was blamed already."""
    STOPPED = "stopped"
    """The server stopped before a function of its process had done with the message."""

    @property
    def kind(self) -> AttemptKind:
        """The word that the store has for it."""
        return _KINDS[self]


_KINDS: dict[Blame, AttemptKind] = {
    Blame.REJECTED: "rejected",
    Blame.EXPIRED: "expired",
    Blame.LOST: "lost",
    Blame.SILENT: "lost",
    Blame.STOPPED: "lost",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision about a message.

    Attributes:
        failures: The number of its failures by now.
        losses: The number of its lost connections by now.
        breaks: The number of connections in a row by now that broke before it was acknowledged.
        delay_s: Seconds until the next attempt; ``None`` if the message is given up.
        is_undeliverable: Whether it is given up because all its connections broke.
    """

    failures: int
    losses: int
    breaks: int
    delay_s: float | None
    is_undeliverable: bool = False


def judge(
    blame: Blame,
    message: MessageRow,
    *,
    acknowledged: int,
    retry_in_s: float | None,
    is_final: bool,
    options: QueueOptions,
    chance: float,
) -> Verdict:
    """Count a delivery that ended without an ack, and decide about its message.

    Args:
        blame: The cause of the end.
        message: The message, with its counts from before.
        acknowledged: The number of messages that the consumer has ever acknowledged.
        retry_in_s: The pause that the nack asked for, in seconds; ``None`` for the queue's backoff.
        is_final: Whether the nack asked for no further attempt.
        options: The queue's options.
        chance: A random number from 0 to 1, for the jitter.

    Returns:
        The new counts, and the pause. After a lost connection there is no pause: the next taker gets the message.
    """
    breaks = message.breaks if message.breaks_since == acknowledged else 0
    if blame is Blame.STOPPED:
        return Verdict(message.failures, message.losses + 1, breaks, 0.0)
    if blame in (Blame.LOST, Blame.SILENT):
        return _judge_lost(message, breaks + (blame is Blame.LOST), options)
    failures, losses = message.failures + 1, message.losses
    if is_final or failures >= options.max_failures or _exceeds(options.max_deliveries, failures + losses):
        return Verdict(failures, losses, 0, None)
    if retry_in_s is not None:
        return Verdict(failures, losses, 0, min(retry_in_s, options.max_age_s))
    return Verdict(failures, losses, 0, backoff_of(options).pause_s(failures, chance))


def _judge_lost(message: MessageRow, breaks: int, options: QueueOptions) -> Verdict:
    failures, losses = message.failures, message.losses + 1
    if breaks >= MOST_BREAKS:
        return Verdict(failures, losses, breaks, None, is_undeliverable=True)
    is_dead = _exceeds(options.max_losses, losses) or _exceeds(options.max_deliveries, failures + losses)
    return Verdict(failures, losses, breaks, None if is_dead else 0.0)


def is_spent(message: MessageRow, options: QueueOptions, *, in_process: bool, max_losses: int | None = None) -> bool:
    """Return whether a message may not be delivered once more: kills of the process have brought it to a limit.

    Args:
        message: The message.
        options: The queue's options.
        in_process: Whether a function of this process would get it, and not a socket.
        max_losses: The function's own limit; ``None`` for the queue's.
    """
    if _exceeds(options.max_deliveries, message.failures + message.losses):
        return True
    if in_process:
        return message.deaths >= (max_losses or options.max_losses or _MOST_DEATHS)
    return _exceeds(options.max_losses, message.losses)


def cause_of(message: MessageRow, last: Attempt) -> str:
    """Return why a message became a dead letter, in one of a few words.

    Args:
        message: The message.
        last: Its last attempt. The words of its reason may be a client's.
    """
    if message.damaged:
        return "damaged"
    return UNDELIVERABLE if last.kind == "lost" and last.reason == UNDELIVERABLE else last.kind


def backoff_of(options: QueueOptions) -> RetryPolicy:
    """Return the pauses between a message's attempts, and between those of a consumer that probes."""
    return RetryPolicy(options.first_backoff_s, options.max_backoff_s, options.backoff_jitter)


def _exceeds(most: int | None, count: int) -> bool:
    return most is not None and count >= most
