"""Messages and dead letters as the application sees them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from waypost.checking.arguments import COUNT_OR_ZERO, POSITIVE, POSITIVE_OR_ZERO, check
from waypost.checking.headers import check_headers
from waypost.checking.names import Name, as_name
from waypost.errors import ConfigurationError, MalformedPacket
from waypost.protocol.headers import pack_headers, read_headers
from waypost.protocol.records import read_values
from waypost.protocol.rejections import Rejection
from waypost.storage.clock import StoreClock
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
"""A place where a consumer starts or is moved to: ``"oldest"``, ``"new"``, an offset, or a time."""


def to_place(start: Start, *, argument: str = "start") -> Place:
    """Convert a place in a queue from the application's form into the store's form.

    Args:
        start: The place.
        argument: The name of the argument that it came as, for the error.

    Raises:
        ConfigurationError: The value is not a place.
    """
    if start == "oldest":
        return "oldest"
    if start == "new":
        return "new"
    if isinstance(start, datetime) and start.tzinfo is not None:
        return FromTime(start.timestamp())
    if isinstance(start, int) and COUNT_OR_ZERO.accepts(start):
        return FromPosition(start)
    raise ConfigurationError(argument, start, '"oldest", "new", an offset (int), or a datetime with a time zone')


class Receipt(NamedTuple):
    """The result of an emit to a queue. The message is on disk, if the store is durable.

    Attributes:
        id: The message's id.
        offset: The message's offset in the queue; 0 for a delayed message, which gets its offset when it is due.
        duplicate: True if the queue had accepted that id before. The offset is that of the first message then, and
            nothing was added.
    """

    id: str
    offset: int
    duplicate: bool


class NewMessage:
    """A message for `Queue.emit_many`; `Queue.emit` describes the arguments.

    Args:
        event: The name of the event that consumers receive.
        args: The event's arguments.
        id: The message's id; ``None`` makes one.
        key: The ordering key.
        ttl_s: The time to live, in seconds above 0; ``None`` for no limit.
        delay_s: Seconds until the message is due, from 0.
        headers: What receivers get beside the arguments, text to text.
    """

    __slots__ = ("args", "delay_s", "event", "headers", "id", "key", "ttl_s")

    def __init__(
        self,
        event: str,
        *args: Any,
        id: Name | None = None,
        key: Name | None = None,
        ttl_s: float | None = None,
        delay_s: float | None = None,
        headers: Mapping[str, str] | None = None,
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
        self.headers = None if headers is None else check_headers(headers)

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
    headers = None if message.headers is None else pack_headers(message.headers)
    return NewMessageRow(message_id, record, message.key, message.ttl_s, message.delay_s, headers)


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """A message in a queue, as `Queue.peek` returns it.

    Attributes:
        offset: The message's offset in the queue.
        id: The message's id.
        key: The ordering key; ``None`` if the message has none.
        enqueued_at: The time at which the message got its offset.
        expires_at: The time from which on it is not delivered any more; ``None`` for never.
        event: The name of the event that consumers receive; ``""`` if the stored message is unreadable.
        args: The event's arguments.
        headers: The message's headers.
    """

    offset: int
    id: str
    key: str | None
    enqueued_at: datetime
    expires_at: datetime | None
    event: str
    args: Sequence[Any]
    headers: Mapping[str, str]


def queued_message(stored: MessageRow) -> QueuedMessage:
    """Read what the store has of a message."""
    event, args = _read(stored)
    expires_at = None if stored.expires_at is None else _time(stored.expires_at)
    return QueuedMessage(
        offset=stored.position,
        id=stored.id,
        key=stored.key,
        enqueued_at=_time(stored.enqueued_at),
        expires_at=expires_at,
        event=event,
        args=args,
        headers=read_headers(stored.headers),
    )


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that a consumer gave up.

    Attributes:
        number: The dead letter's number in its queue. Later dead letters have larger numbers.
        consumer: The name of the consumer that gave the message up.
        offset: The offset that the message had in the queue.
        id: The message's id.
        key: The ordering key; ``None`` if the message had none.
        enqueued_at: The time at which the message got its offset.
        died_at: The time at which the consumer gave it up.
        reason: The reason of the last failure, in words.
        exception: The type of the exception that the function of the last attempt raised, such as
            ``"smtplib.SMTPServerDisconnected"``; ``None`` for other failures.
        failures: The number of deliveries that were rejected, or not acknowledged in time.
        lost_deliveries: The number of deliveries that ended with the connection.
        history: The last 32 attempts, oldest first, each with its time.
        event: The name of the event; ``""`` if the stored message is unreadable.
        args: The event's arguments.
        headers: The message's headers.
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
    headers: Mapping[str, str]
    exception: str | None


def dead_letter(stored: DeadLetterRow) -> DeadLetter:
    """Read what the store has of a dead letter."""
    event, args = _read(stored)
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
        headers=read_headers(stored.headers),
        exception=stored.exception,
    )


def _read(stored: MessageRow | DeadLetterRow) -> tuple[str, Sequence[Any]]:
    # An unreadable message must not hide the others of the same page.
    if stored.damaged:
        return "", ()
    try:
        event, *args = read_values(stored.record)
    except MalformedPacket:
        return "", ()
    return event, args


class Message:
    """A delivered message: the first argument of a worker, which is a function with ``@io.consumer(…)``.

    Attributes:
        queue: The queue's name.
        id: The message's id, the same at each delivery.
        key: The ordering key; ``None`` if the message has none.
        offset: The message's offset in the queue.
        attempt: The number of this delivery, from 1.
        enqueued_at: The time at which the message got its offset.
        event: The event's name.
        args: The event's arguments.
        headers: The message's headers.
    """

    __slots__ = (
        "_clock",
        "_delivery",
        "_lease_s",
        "_note_rejection",
        "args",
        "attempt",
        "enqueued_at",
        "event",
        "headers",
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
        clock: StoreClock,
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
        self.enqueued_at = _time(clock.to_wall(stored.enqueued_at))
        self.headers: Mapping[str, str] = read_headers(stored.headers)
        self._delivery = delivery
        self._lease_s = lease_s
        self._clock = clock
        self._note_rejection = note_rejection

    def __repr__(self) -> str:
        return f"<Message {self.id} {self.event!r} of {self.queue}, attempt {self.attempt}>"

    def extend(self, seconds: float | None = None) -> None:
        """Extend the lease of the message. Safe to call from any thread.

        Without this call, a running worker keeps its message for the queue's ``max_lease_s``.

        Args:
            seconds: Seconds from now, above 0; ``None`` for the queue's ``lease_s``.
        """
        if seconds is not None:
            check("seconds", seconds, POSITIVE)
        until = self._clock.now() + (self._lease_s if seconds is None else seconds)
        self._delivery.extend(until)

    def nack(self, reason: str, *, retry_in_s: float | None = None, final: bool = False) -> None:
        """Reject the message: when the worker returns, the message is not acknowledged, and is delivered again later.

        Raising an exception does the same; `Reject` takes the same arguments. Safe to call from any thread.

        Args:
            reason: The reason, for the log and the dead letter.
            retry_in_s: Seconds until the next delivery, from 0; ``None`` leaves them to the queue's backoff.
            final: True if the message is not to be delivered again: it is a dead letter at once.
        """
        if retry_in_s is not None:
            check("retry_in_s", retry_in_s, POSITIVE_OR_ZERO)
        self._note_rejection(Rejection(reason, is_final=final, retry_in_s=retry_in_s))


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
