"""The records that the queue part of the storage contract takes and returns.

Records that are made for every message are tuples: a frozen dataclass costs several times as much to make.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple, TypeAlias

import msgspec

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
    "counted_bytes",
]

AttemptKind: TypeAlias = Literal["rejected", "expired", "lost"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """The limits of a queue.

    Attributes:
        max_messages: The largest number of messages, those that are not due yet included.
        max_bytes: The largest size of their records and headers together, in bytes.
        max_age_s: The largest age of a message, in seconds; `Store.trim` drops older messages.
        overflow: The answer to a message that does not fit. ``"refuse"`` raises `QueueFull`; ``"drop_oldest"`` drops
            the oldest messages, and records for each consumer what it lost.
        keep_settled_s: Seconds for which a message is kept after every consumer has settled it.
    """

    max_messages: int = 1 << 53
    max_bytes: int = 1 << 30
    max_age_s: float = 7 * 24 * 3600
    overflow: Literal["refuse", "drop_oldest"] = "refuse"
    keep_settled_s: float = 0.0


def counted_bytes(record: bytes, headers: str | None) -> int:
    """Return the bytes that a message counts for: those of its record and its headers."""
    return len(record) if headers is None else len(record) + len(headers.encode())


class NewMessageRow(NamedTuple):
    """A message to enqueue.

    Attributes:
        id: The message's id.
        record: The encoded event; opaque to the store.
        key: The ordering key; ``None`` for none.
        ttl_s: The time to live, in seconds from when the message is due; ``None`` for no limit.
        delay_s: Seconds from now until the message is due.
        headers: The message's headers as text; opaque to the store. ``None`` for none.
    """

    id: str
    record: bytes
    key: str | None = None
    ttl_s: float | None = None
    delay_s: float = 0.0
    headers: str | None = None

    @property
    def size(self) -> int:
        """The bytes that the message counts for."""
        return counted_bytes(self.record, self.headers)


class Accepted(NamedTuple):
    """The result of enqueuing one message.

    Attributes:
        id: The message's id.
        position: The message's position in the queue; for a duplicate, that of the first message. 0 if it is not due.
        duplicate: True if the queue had accepted that id before, within the deduplication window.
    """

    id: str
    position: int
    duplicate: bool


class Enqueued(NamedTuple):
    """The result of `StoredQueue.enqueue`.

    Attributes:
        accepted: One result for each message, in order.
        losers: The names of the consumers that lost messages to make room.
        next_due_at: The store's time at which the first delayed message of these falls due, in seconds; ``None`` if
            none is delayed.
    """

    accepted: tuple[Accepted, ...]
    losers: tuple[str, ...] = ()
    next_due_at: float | None = None


class MessageRow(NamedTuple):
    """A message of a queue, as one consumer sees it.

    Attributes:
        position: The message's position in the queue, from 1.
        id: The message's id.
        record: The encoded event.
        enqueued_at: The store's time at which the message got its position, in seconds: when it was enqueued,
            became due, or was redriven.
        key: The ordering key; ``None`` for none.
        expires_at: The store's time from which on it is not delivered, in seconds; ``None`` for never.
        failures: The number of its deliveries to this consumer that were rejected, or whose lease ended.
        losses: The number of its deliveries to this consumer that were counted as lost.
        retry_at: The store's time of its next delivery, in seconds; 0 if it never failed.
        breaks: As in `Attempt`.
        breaks_since: As in `Attempt`.
        deaths: As in `Attempt`.
        headers: The message's headers, as they were enqueued.
        damaged: True if the stored message is not what was enqueued. Only ``position`` can be relied on.
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
    breaks: int = 0
    breaks_since: int = 0
    deaths: int = 0
    headers: str | None = None
    damaged: bool = False

    @property
    def size(self) -> int:
        """The bytes that the message counts for."""
        return counted_bytes(self.record, self.headers)


@dataclass(frozen=True, slots=True)
class Retries:
    """Failed messages that are due for their next delivery.

    Attributes:
        messages: The messages, sorted by time, then position.
        next_at: The store's time at which the next one falls due, in seconds; ``None`` if there is none.
    """

    messages: tuple[MessageRow, ...]
    next_at: float | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """A delivery that ended without an ack. Its numbers are absolute, so storing it twice is harmless.

    Attributes:
        position: The message's position.
        failures: The number of failures, this one included.
        losses: The number of lost deliveries, this one included.
        kind: ``"rejected"``, ``"expired"`` (the lease ended) or ``"lost"`` (the connection was lost).
        reason: The reason, in words.
        at: The store's time of the end, in seconds.
        retry_at: The store's time of the next delivery, in seconds; 0 for at once. `StoredQueue.bury` ignores it.
        breaks: The number of connections in a row that broke before the message was acknowledged.
        breaks_since: `ConsumerRow.settled` at the last of them: another value means that the consumer has
            acknowledged something since.
        deaths: The number of times that the process ended while a function of it had the message.
        exception: The type of the exception that a function raised; ``None`` for none.
    """

    position: int
    failures: int
    losses: int
    kind: AttemptKind
    reason: str
    at: float
    retry_at: float = 0.0
    breaks: int = 0
    breaks_since: int = 0
    deaths: int = 0
    exception: str | None = None


@dataclass(frozen=True, slots=True)
class HistoryItem:
    """An attempt in the history of a message.

    Attributes:
        at: The time of its end, in seconds since 1970: by the wall clock in a `DeadLetter`, else by the store's.
        kind: ``"rejected"``, ``"expired"`` (the lease ended) or ``"lost"`` (the connection was lost, or the process
            ended).
        reason: The reason, in words.
        exception: The type of the exception that a function of the server raised; ``None`` for none.
    """

    at: float
    kind: str
    reason: str
    exception: str | None = None


@dataclass(frozen=True, slots=True)
class DeadLetterRow:
    """A message that a consumer gave up.

    Attributes:
        number: The dead letter's number in its queue. Later dead letters have larger numbers.
        consumer: The name of the consumer that gave the message up.
        position: The position that the message had.
        id: The message's id.
        record: The encoded event.
        key: The message's ordering key.
        enqueued_at: The store's time at which the message got its position, in seconds.
        died_at: The store's time at which it was given up, in seconds.
        reason: The reason of the last attempt, in words.
        failures: The number of failures.
        losses: The number of lost deliveries.
        history: The last attempts, oldest first; at most `MAX_HISTORY`.
        headers: The message's headers, as they were enqueued.
        exception: The type of the exception of the last attempt; ``None`` for none.
        damaged: True if the stored message is not what was enqueued.
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
    headers: str | None = None
    exception: str | None = None
    damaged: bool = False


@checked("waypost.DeadLetterFilter", prefix="matching.")
@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterFilter:
    """Selects dead letters that match all of its conditions; ``None`` matches all.

    Attributes:
        consumer: The name of the consumer.
        numbers: The numbers of the dead letters.
        id: The message's id.
        key: The message's ordering key.
        reason: A text that the reason contains.
        died_after: The earliest time of the death, in seconds since 1970, as `time.time` gives it.
        died_before: The time before which the message died, in seconds since 1970.
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
    """The result of one step of `StoredQueue.redrive`.

    Attributes:
        letters: The number of dead letters that are messages again.
        last: The number of the last of these dead letters; 0 for none.
        newest: The number of the newest dead letter in the queue before the step, selected or not; 0 for none.
        next_due_at: The store's time at which the first delayed one falls due, in seconds; ``None`` for none.
    """

    letters: int
    last: int
    newest: int
    next_due_at: float | None


@dataclass(frozen=True, slots=True)
class Loss:
    """Messages that a limit of the queue removed before a consumer had settled them.

    Attributes:
        messages: The number of messages.
        first: The position of the first one.
        last: The position of the last one.
    """

    messages: int
    first: int
    last: int


class FromPosition(msgspec.Struct, frozen=True, tag=True):
    """The place in a queue before a position."""

    position: int


class FromTime(msgspec.Struct, frozen=True, tag=True):
    """The place in a queue before the first message that got its position at a store's time, in seconds, or later."""

    time: float


Place: TypeAlias = Literal["oldest", "new"] | FromPosition | FromTime
"""A place in a queue: before the oldest message that is kept, behind the newest one, or as it says."""


@dataclass(frozen=True, slots=True)
class ConsumerRow:
    """A consumer's state.

    Attributes:
        name: The consumer's name, unique in its queue.
        generation: The queue's `QueueRow.generation`.
        epoch: Grows with each seek, and differs from those of all other consumers of the queue. The store ignores
            outcomes with an older epoch.
        cursor: The consumer has settled all messages up to this position.
        waiting: The number of messages that are not settled, those that wait for a retry included.
        retrying: The number of waiting messages that have failed or were lost before.
        settled: The number of messages it has ever settled.
        failed: The number of failures ever counted.
        redelivered: The number of attempts that have ever ended without an ack and led to another delivery.
        dead: The number of its dead letters.
        lost: The messages that the queue's limits removed and of which the consumer was not told yet.
        paused_until: The wall time at which its pause ends, in seconds; infinity for until it is resumed; ``None`` if
            it is not paused.
        active_at: The store's time at which it was last added or settled a message, in seconds.
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
    """A queue's state; all zero for a queue that does not exist. A tuple, because one call may return very many.

    Attributes:
        name: The queue's name.
        generation: Names the history that positions belong to. It changes when positions may mean other messages:
            after the queue was deleted, or the store lost data.
        top: The position of the newest message the queue ever had; 0 for none.
        messages: The number of messages that are due.
        delayed: The number of messages that are not due yet.
        bytes: The size of the records of both together, in bytes.
        oldest_at: The store's time at which the oldest due message got its position, in seconds; ``None`` for none.
        consumers: The number of consumers.
        dead: The number of dead letters, over all consumers.
        expired: The number of messages that have ever outlived their time to live.
        dropped: The number of messages that the queue's limits have ever removed.
        paused_until: The end of the pause of all consumers; as in `ConsumerRow`.
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
    """The configuration of a queue.

    Attributes:
        queue: The queue's name.
        limits: The queue's limits; ``None`` for the store's.
        settings: Further settings; opaque to the store.
    """

    queue: str
    limits: QueueLimits | None
    settings: bytes


@dataclass(frozen=True, slots=True)
class Due:
    """The result of `Store.release_due`.

    Attributes:
        queues: The names of the queues that have new messages, or that another program has changed.
        next_at: The store's time at which the next message falls due, in seconds; ``None`` if none waits.
        changed: The names of the queues that another program has changed. Their configuration may have changed too.
    """

    queues: frozenset[str]
    next_at: float | None
    changed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ExpiredConsumer:
    """A consumer that was removed because nothing used it for too long.

    Attributes:
        queue: The name of its queue.
        consumer: The consumer's name.
        waiting: The number of messages it had not settled.
        dead: The number of its dead letters, which were removed with it.
    """

    queue: str
    consumer: str
    waiting: int
    dead: int
