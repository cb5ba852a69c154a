"""What Waypost's own client and server tell each other beyond Socket.IO; official ones never see any of it.

The client says who it is in a header of its HTTP requests, and the server in its answer to CONNECT. From then on
an event that a queue delivers has one more last argument, an object with the one key `KEY`: a `DeliveryMark`. An
event that the client repeats until it is answered has an `OutboxMark` there; if the server does not handle it, such
an object is all of the acknowledgement: a `Rejection`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = [
    "ANSWER_FIELD",
    "HEADER",
    "KEY",
    "REVISION",
    "DeliveryMark",
    "OutboxMark",
    "Rejection",
    "client_revision",
    "read_rejection",
    "split_mark",
    "split_outbox_mark",
]

REVISION = 1
"""Which version of this page both sides speak."""

HEADER = "waypost-client"
"""The header in which the client names its revision, in lower case."""

ANSWER_FIELD = "waypost"
"""The field of the answer to CONNECT in which the server names its revision, to such a client only."""

KEY = "_waypost"
"""The only key of the object that is an event's last argument, as Socket.IO's own ``_placeholder``."""

_MAX_DIGITS = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryMark:
    """Which message of a queue an event is. Queue, consumer, epoch and position together name one message for ever.

    Attributes:
        queue: The queue.
        consumer: The consumer that it is delivered to.
        id: The message's id.
        epoch: Another one whenever positions begin to mean something else: after a seek, in another store.
        position: Its place in the queue.
        cursor: The position up to which all messages of this epoch are settled, and so will not come again.
        attempt: Which delivery of it to this consumer this is, from 1.
    """

    queue: str
    consumer: str
    id: str
    epoch: str
    position: int
    cursor: int
    attempt: int

    def argument(self) -> dict[str, Any]:
        """Give the argument that carries it."""
        return {KEY: asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxMark:
    """Which event of a client's outbox this is. Client and message together name one event for ever.

    Attributes:
        client: The client's id, which only the client and the server know: whoever has it gets its answers.
        message: The event's id.
        sequence: The event's place in the outbox, from 1.
        settled: The client has what it was answered to all events up to this place, and will not send them again.
    """

    client: str
    message: str
    sequence: int
    settled: int

    def argument(self) -> dict[str, Any]:
        """Give the argument that carries it."""
        return {KEY: asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Why the server has not handled an event of an outbox.

    Attributes:
        reason: Why, in words; ``""`` if it only waits for an event before it.
        is_final: Whether it never will.
        data: What the application says about it, or ``None``.
        retry_in_s: Seconds after which to send it again; ``None`` leaves them to the client.
    """

    reason: str
    is_final: bool = False
    data: Any = None
    retry_in_s: float | None = None

    def argument(self) -> dict[str, Any]:
        """Give the acknowledgement's argument."""
        return {KEY: asdict(self)}


_DELIVERY = {"queue": str, "consumer": str, "id": str, "epoch": str, "position": int, "cursor": int, "attempt": int}
_OUTBOX = {"client": str, "message": str, "sequence": int, "settled": int}
_REJECTION = {"reason": str, "is_final": bool}

_MIN_CLIENT_ID = 16
_MAX_ID = 128
_MAX_SEQUENCE = (1 << 63) - 1
_MAX_RETRY_IN_S = 1e6


def client_revision(headers: Mapping[str, str]) -> int:
    """Tell which revision a client speaks.

    Args:
        headers: The headers of its first request, names in lower case.

    Returns:
        The revision that both sides speak; 0 for every client that is not Waypost's own.
    """
    text = headers.get(HEADER, "")
    if not (text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS):
        return 0
    return min(int(text), REVISION)


def split_mark(arguments: list[Any]) -> tuple[list[Any], DeliveryMark | None]:
    """Split an event's arguments from the mark behind them.

    Args:
        arguments: What came.

    Returns:
        The arguments for the application, and the mark; ``None`` if there is none, or none that names a message.
    """
    arguments, fields = _split(arguments, _DELIVERY)
    return arguments, None if fields is None else DeliveryMark(**{name: fields[name] for name in _DELIVERY})


def split_outbox_mark(arguments: list[Any]) -> tuple[list[Any], OutboxMark | None]:
    """Split an event's arguments from the mark of the outbox that it comes from.

    Args:
        arguments: What came.

    Returns:
        The arguments for the application, and the mark; ``None`` if there is none, or none that can be right.
    """
    arguments, fields = _split(arguments, _OUTBOX)
    if fields is None:
        return arguments, None
    mark = OutboxMark(**{name: fields[name] for name in _OUTBOX})
    ids_are_sound = _MIN_CLIENT_ID <= len(mark.client) <= _MAX_ID and 0 < len(mark.message) <= _MAX_ID
    numbers_are_sound = 0 <= mark.settled < mark.sequence <= _MAX_SEQUENCE
    return arguments, mark if ids_are_sound and numbers_are_sound else None


def read_rejection(values: list[Any]) -> Rejection | None:
    """Read an acknowledgement of an event of an outbox.

    Args:
        values: What came.

    Returns:
        Why it was not handled; ``None`` if it was.
    """
    rest, fields = _split(values, _REJECTION)
    if fields is None or rest:
        return None
    retry_in_s = fields.get("retry_in_s")
    if not isinstance(retry_in_s, int | float) or not 0 <= retry_in_s <= _MAX_RETRY_IN_S:
        retry_in_s = None
    return Rejection(
        reason=fields["reason"], is_final=fields["is_final"], data=fields.get("data"), retry_in_s=retry_in_s
    )


def _split(arguments: list[Any], kinds: Mapping[str, type]) -> tuple[list[Any], dict[str, Any] | None]:
    last = arguments[-1] if arguments else None
    if not isinstance(last, dict) or len(last) != 1 or KEY not in last:
        return arguments, None
    fields = last[KEY]
    if not isinstance(fields, dict) or any(type(fields.get(name)) is not kind for name, kind in kinds.items()):
        return arguments[:-1], None
    return arguments[:-1], fields
