"""What Waypost's own client and server tell each other beyond Socket.IO; official ones never see any of it.

The client says who it is in a header of its HTTP requests, and the server in its answer to CONNECT. From then on
an event that a queue delivers has one more last argument, an object with the one key `KEY`: a `DeliveryMark`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["ANSWER_FIELD", "HEADER", "KEY", "REVISION", "DeliveryMark", "client_revision", "split_mark"]

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


_KINDS = {"queue": str, "consumer": str, "id": str, "epoch": str, "position": int, "cursor": int, "attempt": int}


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
    last = arguments[-1] if arguments else None
    if not isinstance(last, dict) or len(last) != 1 or KEY not in last:
        return arguments, None
    fields = last[KEY]
    if not isinstance(fields, dict) or any(type(fields.get(name)) is not kind for name, kind in _KINDS.items()):
        return arguments[:-1], None
    return arguments[:-1], DeliveryMark(**{name: fields[name] for name in _KINDS})
