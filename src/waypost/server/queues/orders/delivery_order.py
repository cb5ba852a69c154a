"""The protocol of a consumer's delivery order, and its requests to the store. Pure.

A delivery order says what to read from the store (`wants`), takes what was read (`take`), and gives out what may go
(`next`). It hears what becomes of each message: `done`, `put_back`, `park`. It holds a few messages, never a backlog:
what is behind a message that blocks stays in the store until its turn.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import inf
from typing import Protocol

from waypost.storage.queue_records import MessageRow

__all__ = [
    "LOW",
    "LOW_BYTES",
    "MOST_READY",
    "MOST_READY_BYTES",
    "DeliveryOrder",
    "Read",
    "ReadKey",
    "ReadOn",
    "ReadRetries",
]

MOST_READY = 256
"""So many messages that were read may wait for takers."""
LOW = 64
"""With fewer than that left it is time to read on."""
MOST_READY_BYTES = 1 << 20
LOW_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class ReadOn:
    """A request for the next messages after a position."""

    after: int


@dataclass(frozen=True, slots=True)
class ReadRetries:
    """A request for messages up to a position whose pause is over at a time, without those that are known already."""

    upto: int
    excluding: frozenset[int]
    now: float


@dataclass(frozen=True, slots=True)
class ReadKey:
    """A request for the next messages with a key, between two positions."""

    key: str
    after: int
    upto: int


Read = ReadOn | ReadRetries | ReadKey


class DeliveryOrder(Protocol):
    """Says which of one consumer's messages may go next."""

    @property
    def due_at(self) -> float:
        """The store's time at which the next paused message may go; infinity if none is paused."""
        ...

    @property
    def has_more(self) -> bool:
        """Whether messages wait that are not in hand, as far as is known without asking the store."""
        ...

    def wants(self, now: float) -> Read | None:
        """Return what to read from the store next; ``None`` for nothing. Then call `take` or `not_read`."""
        ...

    def take(
        self,
        read: Read,
        messages: Sequence[MessageRow],
        now: float,
        *,
        complete: bool,
        due_at: float = inf,
        done: Collection[int] = (),
    ) -> None:
        """Take the messages that were read.

        Args:
            read: The request; for retries it also excludes those whose failure is not stored yet.
            messages: The messages found, sorted by position.
            now: The store's time.
            complete: True if the store had no more.
            due_at: For retries, the store's time at which the next one falls due.
            done: Positions of messages that were acknowledged, which the store may not have known at the read; for
                retries also of those that have failed or were given up.
        """
        ...

    def not_read(self, read: Read) -> None:
        """Note that the store did not answer a read, so that `wants` asks for it again."""
        ...

    def arrive(self, message: MessageRow, now: float) -> None:
        """Take a message that was just stored."""
        ...

    def look_again(self) -> None:
        """Note that the store may have messages behind the end that was read."""
        ...

    def next(self, now: float, *, probing: bool = False) -> MessageRow | None:
        """Give out the next message that may go; ``None`` if none may.

        Args:
            now: The store's time.
            probing: Whether to give out the message that has been due for longest, instead of the oldest one. So
                messages that fail again and again do not stand before those that were not tried yet.
        """
        ...

    def done(self, message: MessageRow) -> None:
        """Note that a message that was out is acknowledged or given up."""
        ...

    def put_back(self, message: MessageRow) -> None:
        """Take back a message that was out; it may go again at once."""
        ...

    def park(self, message: MessageRow) -> None:
        """Take back a message that was out; it may go again at its ``retry_at``."""
        ...

    def withdraw(self, message: MessageRow) -> None:
        """Note that a message that was put back or parked was acknowledged late."""
        ...

    def look_for_retries(self, now: float) -> None:
        """Note that the store now has the failures of parked messages, some of which may have fallen due before."""
        ...
