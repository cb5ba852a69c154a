"""The records that the storage contract's part about queues takes and gives.

Those that come with every message are tuples: a frozen dataclass costs several times as much to make.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple, TypeAlias

from waypost.checking.constraints import Named
from waypost.checking.options import checked

__all__ = [
    "Accepted",
    "Attempt",
    "Configuration",
    "ConsumerRow",
    "DeadLetterFilter",
    "DeadLetterRow",
    "Due",
    "Enqueued",
    "ExpiredConsumer",
    "FromPosition",
    "FromTime",
    "HistoryItem",
    "Loss",
    "MessageRow",
    "NewMessageRow",
    "Place",
    "QueueLimits",
    "QueueRow",
    "Redriven",
    "Retries",
]

AttemptKind: TypeAlias = Literal["rejected", "expired", "lost"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """How much a queue keeps.

    Attributes:
        max_messages: The number of messages, those that are not due yet included.
        max_bytes: The size of their records together, in bytes.
        max_age_s: The age of the oldest message, in seconds; older ones are dropped, by `Store.trim`.
        overflow: What happens to a message that does not fit: ``"refuse"`` raises `QueueFull`; ``"drop_oldest"``
            drops the oldest messages for it, and keeps for each consumer what it lost.
    """

    max_messages: int = 1 << 53
    max_bytes: int = 1 << 30
    max_age_s: float = 7 * 24 * 3600
    overflow: Literal["refuse", "drop_oldest"] = "refuse"


class NewMessageRow(NamedTuple):
    """What is put into a queue.

    Attributes:
        id: Its id.
        record: What to keep.
        key: What it is ordered by, if the consumer orders by key.
        ttl_s: For how long it is worth delivering, in seconds from when it is due; ``None`` for ever.
        delay_s: When it is due, in seconds from now.
    """

    id: str
    record: bytes
    key: str | None = None
    ttl_s: float | None = None
    delay_s: float = 0.0


class Accepted(NamedTuple):
    """The answer to a message that was put into a queue.

    Attributes:
        id: The message's id.
        position: Its position in the queue; of the first one, if it is a duplicate. 0 while it is not due.
        duplicate: Whether the queue had accepted that id before, within the deduplication window.
    """

    id: str
    position: int
    duplicate: bool


class Enqueued(NamedTuple):
    """The answer to `StoredQueue.enqueue`.

    Attributes:
        accepted: One for each message, in order.
        losers: The names of the consumers that lost messages to make room for them.
        next_due_at: When the first of these that are not due yet will be, as wall time in seconds, or ``None``.
    """

    accepted: tuple[Accepted, ...]
    losers: tuple[str, ...] = ()
    next_due_at: float | None = None


class MessageRow(NamedTuple):
    """One message of a queue, as one consumer sees it.

    Attributes:
        position: Its position in the queue, from 1.
        id: Its id.
        record: What was enqueued.
        enqueued_at: When it got its position: when it was enqueued, became due or was redriven; wall time in seconds.
        key: Its key.
        expires_at: From when on it is no longer delivered, as wall time in seconds; ``None`` for never.
        failures: How often it was rejected, or its lease ran out, at this consumer.
        losses: How often a delivery of it to this consumer was counted as lost.
        retry_at: From when on it is to be delivered again, as wall time in seconds; 0 if it never failed.
    """

    position: int
    id: str
    record: bytes
    enqueued_at: float
    key: str | None = None
    expires_at: float | None = None
    failures: int = 0
    losses: int = 0
    retry_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Retries:
    """Messages whose time has come again.

    Attributes:
        messages: The messages, by time, then position.
        next_at: When the next one is due that is not, as wall time in seconds; ``None`` if there is none.
    """

    messages: tuple[MessageRow, ...]
    next_at: float | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """How a delivery of a message ended without an ack. Its numbers are absolute, so it may be stored twice.

    Attributes:
        position: The message's position.
        failures: How often it has failed, with this time.
        losses: How often it was lost, with this time.
        kind: ``"rejected"``, ``"expired"`` (the lease ran out) or ``"lost"`` (the connection went).
        reason: Why, in words.
        at: When, as wall time in seconds.
        retry_at: From when on it is to be delivered again, as wall time in seconds, 0 for at once; of no meaning to
            `StoredQueue.bury`.
    """

    position: int
    failures: int
    losses: int
    kind: AttemptKind
    reason: str
    at: float
    retry_at: float = 0.0


@dataclass(frozen=True, slots=True)
class HistoryItem:
    """One of a message's attempts, as it is kept.

    Attributes:
        at: When, as wall time in seconds.
        kind: As in `Attempt`.
        reason: Why, in words.
    """

    at: float
    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class DeadLetterRow:
    """A message that was given up on at a consumer.

    Attributes:
        number: What it is found by; the one that died later has the larger one.
        consumer: The consumer's name.
        position: Where the message stood.
        id: The message's id.
        record: What was enqueued.
        key: The message's key.
        enqueued_at: When the message got its position, as wall time in seconds.
        died_at: When it was given up on, as wall time in seconds.
        reason: Why, in words: that of the last attempt.
        failures: How often it had failed.
        losses: How often a delivery had been lost.
        history: Its last attempts, oldest first; at most `MAX_HISTORY`.
    """

    number: int
    consumer: str
    position: int
    id: str
    record: bytes
    key: str | None
    enqueued_at: float
    died_at: float
    reason: str
    failures: int
    losses: int
    history: tuple[HistoryItem, ...]


@checked("waypost.DeadLetterFilter", prefix="matching.")
@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterFilter:
    """Which dead letters are meant: those that all of these fit; ``None`` fits all.

    Attributes:
        consumer: Those of this consumer.
        numbers: Those with one of these numbers.
        id: Those of messages with this id.
        key: Those of messages with this key.
        reason: Those whose reason contains this text.
        died_after: Those that died at this wall time or later, in seconds.
        died_before: Those that died before this wall time, in seconds.
    """

    consumer: Annotated[str, Named()] | None = None
    numbers: Collection[int] | None = None
    id: Annotated[str, Named()] | None = None
    key: Annotated[str, Named()] | None = None
    reason: str | None = None
    died_after: float | None = None
    died_before: float | None = None


@dataclass(frozen=True, slots=True)
class Redriven:
    """What a step of `StoredQueue.redrive` did.

    Attributes:
        letters: How many dead letters are messages again.
        last: The number of the last one; 0 if there was none.
        newest: The number of the newest dead letter that the queue had before, meant or not; 0 for none.
        next_due_at: When the first of those that are not due yet will be, as wall time in seconds, or ``None``.
    """

    letters: int
    last: int
    newest: int
    next_due_at: float | None


@dataclass(frozen=True, slots=True)
class Loss:
    """Messages that a consumer had not settled when a limit of the queue ended them.

    Attributes:
        messages: How many.
        first: The position of the first one.
        last: The position of the last one.
    """

    messages: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class FromPosition:
    """The place in a queue before a position."""

    position: int


@dataclass(frozen=True, slots=True)
class FromTime:
    """The place in a queue before the first message that got its position at a wall time, in seconds, or later."""

    time: float


Place: TypeAlias = Literal["oldest", "new"] | FromPosition | FromTime
"""A place in a queue: before the oldest message that is kept, behind the newest one, or as it says."""


@dataclass(frozen=True, slots=True)
class ConsumerRow:
    """A consumer's state.

    Attributes:
        name: Its name, unique in its queue.
        generation: The queue's `QueueRow.generation`.
        epoch: Grows with each seek, and is never that of another consumer of the queue. What is settled with an
            older one is ignored.
        cursor: The position up to which no message waits for it.
        waiting: How many messages are not settled; those that wait for a retry included.
        retrying: How many of these have failed or were lost before.
        settled: How many it has settled in all.
        failed: How many failures were counted in all.
        redelivered: How many attempts ended without an ack in all, so that the message came or comes again.
        dead: How many dead letters are kept for it.
        lost: What it lost to the queue's limits and was not told yet.
        paused_until: Until when it is paused, as wall time in seconds, infinity for until it is resumed; ``None`` if
            it is not paused.
        active_at: When it was last added or settled something, as wall time in seconds.
    """

    name: str
    generation: str
    epoch: int
    cursor: int
    waiting: int
    retrying: int = 0
    settled: int = 0
    failed: int = 0
    redelivered: int = 0
    dead: int = 0
    lost: Loss | None = None
    paused_until: float | None = None
    active_at: float = 0.0


class QueueRow(NamedTuple):
    """A queue's state; of one that does not exist, all zero. A tuple, as it is asked for of very many queues.

    Attributes:
        name: Its name.
        generation: A name of its positions: another one when they may mean other messages than they did, as the queue
            was deleted, or the store lost what it had.
        top: The position of its newest message ever, 0 for none; so the number of those that ever were due.
        messages: How many messages it keeps that are due.
        delayed: How many it keeps that are not due yet.
        bytes: The size of the records of both together.
        oldest_at: When the oldest message that is due got its position, as wall time in seconds; ``None`` if there is
            none.
        consumers: How many consumers it has.
        dead: How many dead letters are kept for them.
        expired: How many messages have outlived their time to live.
        dropped: How many messages its limits ended.
        paused_until: Until when all its consumers are paused; as in `ConsumerRow`.
    """

    name: str
    generation: str = ""
    top: int = 0
    messages: int = 0
    delayed: int = 0
    bytes: int = 0
    oldest_at: float | None = None
    consumers: int = 0
    dead: int = 0
    expired: int = 0
    dropped: int = 0
    paused_until: float | None = None


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a queue was configured with.

    Attributes:
        queue: The queue's name.
        limits: Its limits; ``None`` for the store's.
        settings: What else the caller keeps with it.
    """

    queue: str
    limits: QueueLimits | None
    settings: bytes


@dataclass(frozen=True, slots=True)
class Due:
    """What `Store.release_due` found.

    Attributes:
        queues: The names of the queues that have new messages, or were changed by another program.
        next_at: When the next message will be due, as wall time in seconds; ``None`` if none waits.
        changed: The names of those that another program has changed: also what is configured may be something else.
    """

    queues: frozenset[str]
    next_at: float | None
    changed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ExpiredConsumer:
    """A consumer that ended because nobody used it.

    Attributes:
        queue: Its queue's name.
        consumer: Its name.
        waiting: How many messages it had not settled.
        dead: How many dead letters were kept for it, and went with it.
    """

    queue: str
    consumer: str
    waiting: int
    dead: int
