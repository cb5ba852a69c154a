"""Waypost's extension of Socket.IO, which only Waypost's own client and server use; official ones never see it.

The client names its revision in a header of its HTTP requests, or in its CONNECT if it runs in a browser, and the
server in its answer to CONNECT. From then on, an event that a queue delivers has one more last argument: an object
with the single key `KEY` and a `DeliveryMark`. An event of the client's outbox has an `OutboxMark` there, and the
client repeats it until the server answers. If the server does not handle an event, the whole acknowledgement is such
an object with a `waypost.protocol.rejections.Rejection`. Clients of revision 1 get one only for events of an outbox.
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
    "split_auth",
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
_LATEST = 253_402_300_800.0
"""The year 10,000: no `datetime` is later."""


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
        enqueued_at: The wall time at which the message got its position, in seconds; ``None`` if the server is older.
        headers: The message's headers; ``None`` for none.
    """

    queue: str
    consumer: str
    id: str
    epoch: str
    position: int
    cursor: int
    attempt: int
    enqueued_at: float | None = None
    headers: Mapping[str, str] | None = None

    def argument(self) -> dict[str, Any]:
        """Return the event argument that carries the mark."""
        return {KEY: {name: value for name, value in asdict(self).items() if value is not None}}


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


def split_auth(payload: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """Split what a client says of this extension from the payload of its CONNECT, where `KEY` is reserved for it.

    A browser can't set headers, so its client names the revision there, as ``{"_waypost": {"revision": 2}}``.

    Args:
        payload: The payload as it arrived.

    Returns:
        The payload without `KEY`, and the revision that both sides speak; 0 for clients that name none.
    """
    said = payload.get(KEY)
    revision = said.get("revision") if isinstance(said, dict) else None
    rest = {name: value for name, value in payload.items() if name != KEY}
    if not isinstance(revision, int) or isinstance(revision, bool) or revision < 1:
        return rest, 0
    return rest, min(revision, REVISION)


def split_mark(arguments: list[Any]) -> tuple[list[Any], DeliveryMark | None]:
    """Split the mark of a queued message from an event's arguments.

    Args:
        arguments: The arguments as they arrived.

    Returns:
        The application's arguments, and the mark, or ``None`` if it is missing or incomplete. What a mark need not
        have is left out if it is not sound.
    """
    arguments, fields = split_last(arguments, _DELIVERY)
    if fields is None:
        return arguments, None
    enqueued_at, headers = _enqueued_at(fields.get("enqueued_at")), _headers(fields.get("headers"))
    required = {name: fields[name] for name in _DELIVERY}
    return arguments, DeliveryMark(**required, enqueued_at=enqueued_at, headers=headers)


def _enqueued_at(value: object) -> float | None:
    is_time = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _LATEST
    return float(value) if is_time else None  # type: ignore[arg-type]  # is_time says so


def _headers(value: object) -> dict[str, str] | None:
    if isinstance(value, dict) and all(isinstance(one, str) for one in (*value, *value.values())):
        return value
    return None


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
