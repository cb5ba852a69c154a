"""The records of a queue in memory."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from sys import maxsize

from waypost.storage.ordered import Ordered
from waypost.storage.queue_records import HistoryItem, Loss, MessageRow

__all__ = ["ConsumerState", "Kept", "Outstanding", "Scheduled"]


@dataclass(slots=True)
class Kept:
    """A message that is kept.

    Attributes:
        message: The message.
        only: The one consumer it is for, or ``None``.
        wanted: How many consumers have not settled it.
        history: Its attempts before it was redriven.
    """

    message: MessageRow
    only: str | None = None
    wanted: int = 0
    history: tuple[HistoryItem, ...] = ()


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A message that is not due yet.

    Attributes:
        id: Its id.
        record: Its record.
        key: Its key.
        ttl_s: Its time to live, in seconds.
        due_at: When it is due, as wall time in seconds.
        only: The one consumer it is for, or ``None``.
        history: Its attempts before it was redriven.
    """

    id: str
    record: bytes
    key: str | None
    ttl_s: float | None
    due_at: float
    only: str | None = None
    history: tuple[HistoryItem, ...] = ()


@dataclass(slots=True)
class Outstanding:
    """A message up to a consumer's frontier that it has not settled."""

    failures: int = 0
    losses: int = 0
    retry_at: float = 0.0
    history: tuple[HistoryItem, ...] = ()


@dataclass(slots=True)
class ConsumerState:
    """One consumer.

    Attributes:
        name: Its name.
        epoch: Its epoch.
        frontier: Up to here it has settled everything but what is outstanding; nothing beyond it.
        passed: What the queue's count of messages for all is more than those that are for it beyond the frontier.
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
        """Return when the next message is due again that is not, if there is one."""
        index = bisect_right(self.retrying, (now, maxsize))
        return self.retrying[index][0] if index < len(self.retrying) else None

    def forget_retry(self, position: int) -> None:
        """Take a message out of those that are to be retried, if it is one."""
        retry = (self.outstanding[position].retry_at, position)
        index = bisect_left(self.retrying, retry)
        if self.retrying[index : index + 1] == [retry]:
            del self.retrying[index]
