"""Waypost's extension of Socket.IO, which only Waypost's own client and server use; official ones never see it.

The client names its revision in a header of its HTTP requests, and the server in its answer to CONNECT. From then on,
an event that a queue delivers has one more last argument: an object with the single key `KEY` and a `DeliveryMark`.
An event of the client's outbox has an `OutboxMark` there, and the client repeats it until the server answers. If the
server does not handle an event, the whole acknowledgement is such an object with a
`waypost.protocol.rejections.Rejection`. Clients of revision 1 get one only for events of an outbox.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = [
    "ANSWER_FIELD",
    "HEADER",
    "KEY",
    "READS_REJECTIONS",
    "REVISION",
    "DeliveryMark",
    "OutboxMark",
    "client_revision",
    "split_last",
    "split_mark",
    "split_outbox_mark",
]

REVISION = 2
"""The revision of this extension that this version of Waypost speaks."""

READS_REJECTIONS = 2
"""The first revision in which the acknowledgement of any event may be a `Rejection`."""

HEADER = "waypost-client"
"""The header with the client's revision, in lower case."""

ANSWER_FIELD = "waypost"
"""The field with the server's revision in the answer to CONNECT; sent only to a client that sent `HEADER`."""

KEY = "_waypost"
"""The single key of the object that is an event's last argument; compare Socket.IO's ``_placeholder``."""

_MAX_DIGITS = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryMark:
    """Identifies the queued message that an event delivers.

    Queue, consumer, epoch and position together name a message for ever.

    Attributes:
        queue: The queue's name.
        consumer: The name of the consumer that gets the message.
        id: The message's id.
        epoch: Changes whenever positions change their meaning: after a seek, or with another store.
        position: The message's position in the queue.
        cursor: The consumer has settled all messages of this epoch up to this position; they will not come again.
        attempt: The number of this delivery to the consumer, from 1.
    """

    queue: str
    consumer: str
    id: str
    epoch: str
    position: int
    cursor: int
    attempt: int

    def argument(self) -> dict[str, Any]:
        """Return the event argument that carries the mark."""
        return {KEY: asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxMark:
    """Identifies an event of a client's outbox. Client and message name an event for ever.

    Attributes:
        client: The client's id. Only the client and the server know it, because it gives access to the stored
            answers.
        message: The event's id.
        sequence: The event's place in the outbox, from 1.
        settled: The client has the answers to all events up to this place, and will not send those events again.
    """

    client: str
    message: str
    sequence: int
    settled: int

    def argument(self) -> dict[str, Any]:
        """Return the event argument that carries the mark."""
        return {KEY: asdict(self)}


_DELIVERY = {"queue": str, "consumer": str, "id": str, "epoch": str, "position": int, "cursor": int, "attempt": int}
_OUTBOX = {"client": str, "message": str, "sequence": int, "settled": int}

_MIN_CLIENT_ID = 16
_MAX_ID = 128
_MAX_SEQUENCE = (1 << 63) - 1


def client_revision(headers: Mapping[str, str]) -> int:
    """Return the revision that a client and this server both speak.

    Args:
        headers: The headers of the client's first request, with lower-case names.

    Returns:
        The revision, from 1; 0 for all clients other than Waypost's.
    """
    text = headers.get(HEADER, "")
    if not (text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS):
        return 0
    return min(int(text), REVISION)


def split_mark(arguments: list[Any]) -> tuple[list[Any], DeliveryMark | None]:
    """Split the mark of a queued message from an event's arguments.

    Args:
        arguments: The arguments as they arrived.

    Returns:
        The application's arguments, and the mark, or ``None`` if it is missing or incomplete.
    """
    arguments, fields = split_last(arguments, _DELIVERY)
    return arguments, None if fields is None else DeliveryMark(**{name: fields[name] for name in _DELIVERY})


def split_outbox_mark(arguments: list[Any]) -> tuple[list[Any], OutboxMark | None]:
    """Split the mark of an outbox from an event's arguments.

    Args:
        arguments: The arguments as they arrived.

    Returns:
        The application's arguments, and the mark, or ``None`` if it is missing or has impossible values.
    """
    arguments, fields = split_last(arguments, _OUTBOX)
    if fields is None:
        return arguments, None
    mark = OutboxMark(**{name: fields[name] for name in _OUTBOX})
    ids_are_sound = _MIN_CLIENT_ID <= len(mark.client) <= _MAX_ID and 0 < len(mark.message) <= _MAX_ID
    numbers_are_sound = 0 <= mark.settled < mark.sequence <= _MAX_SEQUENCE
    return arguments, mark if ids_are_sound and numbers_are_sound else None


def split_last(arguments: list[Any], kinds: Mapping[str, type]) -> tuple[list[Any], dict[str, Any] | None]:
    """Split the object with the single key `KEY` from the end of arguments.

    Args:
        arguments: The arguments as they arrived.
        kinds: The fields that the object must have, with their types.

    Returns:
        The arguments without the object, and the object's fields, or ``None`` if the object or one of these fields is
        missing.
    """
    last = arguments[-1] if arguments else None
    if not isinstance(last, dict) or len(last) != 1 or KEY not in last:
        return arguments, None
    fields = last[KEY]
    if not isinstance(fields, dict) or any(type(fields.get(name)) is not kind for name, kind in kinds.items()):
        return arguments[:-1], None
    return arguments[:-1], fields
