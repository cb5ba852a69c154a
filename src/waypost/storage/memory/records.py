"""The records of a queue in memory."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from sys import maxsize

from waypost.storage.ordered import Ordered
from waypost.storage.queue_records import HistoryItem, Loss, MessageRow, counted_bytes

__all__ = ["ConsumerState", "Kept", "Outstanding", "Scheduled"]


@dataclass(slots=True)
class Kept:
    """A message in the queue.

    Attributes:
        message: The message.
        only: The name of the one consumer that it is for, or ``None``.
        wanted: The number of consumers that have not settled it.
        history: Its attempts before it was redriven.
        settled_at: The time at which the last consumer settled it, if the queue keeps it after that.
    """

    message: MessageRow
    only: str | None = None
    wanted: int = 0
    history: tuple[HistoryItem, ...] = ()
    settled_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A message that is not due yet.

    Attributes:
        id: The message's id.
        record: The encoded event.
        key: The ordering key.
        ttl_s: The time to live, in seconds.
        due_at: The store's time at which it is due, in seconds.
        only: The name of the one consumer that it is for, or ``None``.
        history: Its attempts before it was redriven.
        headers: The message's headers.
    """

    id: str
    record: bytes
    key: str | None
    ttl_s: float | None
    due_at: float
    only: str | None = None
    history: tuple[HistoryItem, ...] = ()
    headers: str | None = None

    @property
    def size(self) -> int:
        """The bytes that the message counts for."""
        return counted_bytes(self.record, self.headers)


@dataclass(slots=True)
class Outstanding:
    """A message up to a consumer's frontier that it has not settled."""

    failures: int = 0
    losses: int = 0
    retry_at: float = 0.0
    breaks: int = 0
    breaks_since: int = 0
    deaths: int = 0
    history: tuple[HistoryItem, ...] = ()


@dataclass(slots=True)
class ConsumerState:
    """One consumer.

    Attributes:
        name: The consumer's name.
        epoch: The consumer's epoch.
        frontier: The consumer has settled all messages up to this position except the outstanding ones, and none
            beyond.
        active_at: The store's time of the last use, in seconds.
        passed: The queue's number of messages for all consumers, minus those beyond the frontier for this one.
        outstanding: The messages up to the frontier that are not settled, by position.
        by_key: The positions of outstanding messages by ordering key.
        retrying: The time and the position of each outstanding message that waits for a retry, in order.
        settled: The number of messages that the consumer has ever settled.
        failed: The number of failures ever counted.
        redelivered: The number of attempts that ended without an ack and led to another delivery.
        dead: The number of the consumer's dead letters.
        lost: The lost messages that were not reported yet, or ``None``.
        paused_until: The wall time at which the pause ends, in seconds; ``None`` without a pause.
        holding: The oldest held position of each holder.
    """

    name: str
    epoch: int
    frontier: int
    active_at: float
    passed: int = 0
    outstanding: Ordered[Outstanding] = field(default_factory=Ordered)
    by_key: dict[str, Ordered[None]] = field(default_factory=dict)
    retrying: list[tuple[float, int]] = field(default_factory=list)
    settled: int = 0
    failed: int = 0
    redelivered: int = 0
    dead: int = 0
    lost: Loss | None = None
    paused_until: float | None = None
    holding: dict[str, int] = field(default_factory=dict)

    def next_retry_at(self, now: float) -> float | None:
        """Return the time of the next retry after now, or ``None``."""
        index = bisect_right(self.retrying, (now, maxsize))
        return self.retrying[index][0] if index < len(self.retrying) else None

    def forget_retry(self, position: int) -> None:
        """Remove a message from the waiting retries, if it is one."""
        retry = (self.outstanding[position].retry_at, position)
        index = bisect_left(self.retrying, retry)
        if self.retrying[index : index + 1] == [retry]:
            del self.retrying[index]
