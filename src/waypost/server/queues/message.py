"""A message as the application sees it: in the hands of a worker, looked at, or about to be put into a queue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from waypost.checking.arguments import COUNT_OR_ZERO, POSITIVE, POSITIVE_OR_ZERO, check
from waypost.checking.names import Name, as_name
from waypost.errors import ConfigurationError, MalformedPacket
from waypost.protocol.records import read_values
from waypost.protocol.rejections import Rejection
from waypost.storage.queue_records import (
    DeadLetterRow,
    FromPosition,
    FromTime,
    HistoryItem,
    MessageRow,
    NewMessageRow,
    Place,
)

if TYPE_CHECKING:
    import asyncio

    from waypost.protocol.codec import Codec
    from waypost.server.queues.delivery import Delivery

__all__ = [
    "DeadLetter",
    "Message",
    "NewMessage",
    "QueuedMessage",
    "Receipt",
    "Start",
    "dead_letter",
    "queued_message",
    "to_place",
    "to_row",
]

Start = Literal["oldest", "new"] | int | datetime
"""Where a consumer starts or is moved to: ``"oldest"``, ``"new"``, an offset, or a time."""


def to_place(start: Start) -> Place:
    """Turn what the application says of a place in a queue into what the store takes.

    Raises:
        ConfigurationError: It is no place.
    """
    if start == "oldest":
        return "oldest"
    if start == "new":
        return "new"
    if isinstance(start, datetime) and start.tzinfo is not None:
        return FromTime(start.timestamp())
    if isinstance(start, int) and COUNT_OR_ZERO.accepts(start):
        return FromPosition(start)
    raise ConfigurationError("start", start, '"oldest", "new", an offset (int), or a datetime with a time zone')


class Receipt(NamedTuple):
    """The answer to a message that was put into a queue; it is on disk.

    Attributes:
        id: The message's id.
        offset: Its place in the queue; 0 for one with a delay, which gets its place when it is due.
        duplicate: Whether a message with that id was in the queue already; then this is that one's, and nothing was
            added.
    """

    id: str
    offset: int
    duplicate: bool


class NewMessage:
    """A message for `Queue.emit_many`.

    Args:
        event: The event that consumers get.
        args: Its arguments.
        id: See `Queue.emit`, as for all others.
        key: What it is ordered by.
        ttl_s: For how long it is worth delivering, in seconds.
        delay_s: In how many seconds it is due.
    """

    __slots__ = ("args", "delay_s", "event", "id", "key", "ttl_s")

    def __init__(
        self,
        event: str,
        *args: Any,
        id: Name | None = None,
        key: Name | None = None,
        ttl_s: float | None = None,
        delay_s: float | None = None,
    ) -> None:
        if ttl_s is not None:
            check("ttl_s", ttl_s, POSITIVE)
        if delay_s is not None:
            check("delay_s", delay_s, POSITIVE_OR_ZERO)
        self.event = event
        self.args = args
        self.id = None if id is None else as_name("id", id)
        self.key = None if key is None else as_name("key", key)
        self.ttl_s = ttl_s
        self.delay_s = delay_s or 0.0

    def __repr__(self) -> str:
        return f"<NewMessage {self.event!r} {self.id or ''}>"


def to_row(message: NewMessage, codec: Codec, new_id: Callable[[], str]) -> NewMessageRow:
    """Encode a message for the store.

    Args:
        message: The message.
        codec: Writes its event.
        new_id: Makes an id, if it has none.

    Raises:
        EncodingFailed: The name is reserved, or an argument can't be encoded.
    """
    message_id = new_id() if message.id is None else message.id
    record = codec.encode_event("/", message.event, message.args).to_record()
    return NewMessageRow(message_id, record, message.key, message.ttl_s, message.delay_s)


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """A message that was looked at where it waits; see `Queue.peek`.

    Attributes:
        offset: Its place in the queue.
        id: Its id.
        key: What it is ordered by.
        enqueued_at: When it got its place.
        expires_at: From when on it is no longer delivered.
        event: The event that consumers get.
        args: The event's arguments.
    """

    offset: int
    id: str
    key: str | None
    enqueued_at: datetime
    expires_at: datetime | None
    event: str
    args: Sequence[Any]


def queued_message(stored: MessageRow) -> QueuedMessage:
    """Read what the store has of a message."""
    event, args = _read(stored.record)
    expires_at = None if stored.expires_at is None else _time(stored.expires_at)
    return QueuedMessage(stored.position, stored.id, stored.key, _time(stored.enqueued_at), expires_at, event, args)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was given up on at a consumer.

    Attributes:
        number: What it is found by; one that died later has a larger one.
        consumer: The consumer that gave it up.
        offset: The place it had in the queue.
        id: The message's id.
        key: What it was ordered by.
        enqueued_at: When it got its place.
        died_at: When it was given up.
        reason: Why, in words.
        failures: How often it was rejected, or not acknowledged in time.
        lost_deliveries: How often a connection was lost on it.
        history: Its last attempts, oldest first.
        event: The event that consumers got; ``""`` if what is stored can't be read.
        args: The event's arguments.
    """

    number: int
    consumer: str
    offset: int
    id: str
    key: str | None
    enqueued_at: datetime
    died_at: datetime
    reason: str
    failures: int
    lost_deliveries: int
    history: Sequence[HistoryItem]
    event: str
    args: Sequence[Any]


def dead_letter(stored: DeadLetterRow) -> DeadLetter:
    """Read what the store has of a dead letter."""
    event, args = _read(stored.record)
    return DeadLetter(
        number=stored.number,
        consumer=stored.consumer,
        offset=stored.position,
        id=stored.id,
        key=stored.key,
        enqueued_at=_time(stored.enqueued_at),
        died_at=_time(stored.died_at),
        reason=stored.reason,
        failures=stored.failures,
        lost_deliveries=stored.losses,
        history=stored.history,
        event=event,
        args=args,
    )


def _read(record: bytes) -> tuple[str, Sequence[Any]]:
    # One that can't be read must not hide the others that are listed with it.
    try:
        event, *args = read_values(record)
    except MalformedPacket:
        return "", ()
    return event, args


class Message:
    """A message in the hands of a worker; the first argument of a function with ``@io.consumer(…)``.

    Attributes:
        queue: The queue's name.
        id: The message's id; the same at each delivery.
        key: What it is ordered by.
        offset: Its place in the queue.
        attempt: Which delivery of it this is, from 1.
        enqueued_at: When it got its place.
        event: The event's name.
        args: The event's arguments.
    """

    __slots__ = (
        "_delivery",
        "_lease_s",
        "_loop",
        "_note_rejection",
        "args",
        "attempt",
        "enqueued_at",
        "event",
        "id",
        "key",
        "offset",
        "queue",
    )

    def __init__(
        self,
        queue: str,
        delivery: Delivery,
        lease_s: float,
        loop: asyncio.AbstractEventLoop,
        note_rejection: Callable[[Rejection], None],
    ) -> None:
        stored = delivery.message
        self.event, *arguments = read_values(stored.record)
        self.args = tuple(arguments)
        self.queue = queue
        self.id = stored.id
        self.key = stored.key
        self.offset = stored.position
        self.attempt = delivery.attempt
        self.enqueued_at = _time(stored.enqueued_at)
        self._delivery = delivery
        self._lease_s = lease_s
        self._loop = loop
        self._note_rejection = note_rejection

    def __repr__(self) -> str:
        return f"<Message {self.id} {self.event!r} of {self.queue}, attempt {self.attempt}>"

    def extend(self, seconds: float | None = None) -> None:
        """Keep the message for longer; may be called from any thread.

        A function that runs keeps its message for the queue's ``max_lease_s`` by itself.

        Args:
            seconds: How many seconds from now; ``None`` for the queue's ``lease_s``.
        """
        if seconds is not None:
            check("seconds", seconds, POSITIVE)
        until = self._loop.time() + (self._lease_s if seconds is None else seconds)
        self._delivery.extended_until = max(self._delivery.extended_until, until)

    def nack(self, reason: str, *, retry_in_s: float | None = None) -> None:
        """Reject the message: when the function returns, it is not acknowledged, and is delivered again later.

        Raising does the same; raise `Reject` to say when. May be called from any thread.

        Args:
            reason: Why, for the log and the dead letter.
            retry_in_s: Seconds until the next delivery; ``None`` leaves it to the queue's backoff.
        """
        if retry_in_s is not None:
            check("retry_in_s", retry_in_s, POSITIVE_OR_ZERO)
        self._note_rejection(Rejection(reason, retry_in_s=retry_in_s))


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
