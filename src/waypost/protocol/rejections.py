"""Rejections of events: one record, with two forms on the wire.

Any client rejects a queue's message with an acknowledgement that people write by hand: ``{nack: "why"}``. Waypost's
server rejects an event of a client's outbox with an object that no application would send.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from waypost.protocol.extension import KEY, split_last

__all__ = ["Rejection", "nack_values", "read_nack", "read_rejection"]

_FIELDS = {"reason": str, "is_final": bool}
_LONGEST_REASON = 500
_LONGEST_PAUSE_S = 1e9


@dataclass(frozen=True, slots=True)
class Rejection:
    """The reason why an event was not handled.

    Attributes:
        reason: The reason in words; ``""`` if an event of an outbox only waits for an earlier one.
        is_final: Whether the event will never be handled.
        data: Data from the application, or ``None``.
        retry_in_s: Seconds until the next attempt; ``None`` leaves the delay to the sender.
        exception: The type of the exception that a handler raised, or ``None``. It is not sent.
    """

    reason: str
    is_final: bool = False
    data: Any = None
    retry_in_s: float | None = None
    exception: str | None = None

    def argument(self) -> dict[str, Any]:
        """Return the only argument of the acknowledgement that rejects an event of an outbox."""
        fields = asdict(self)
        del fields["exception"]
        return {KEY: fields}


def read_rejection(arguments: list[Any]) -> Rejection | None:
    """Read an acknowledgement of an event of an outbox.

    Args:
        arguments: The acknowledgement's arguments.

    Returns:
        The rejection; ``None`` if the event was handled.
    """
    rest, fields = split_last(arguments, _FIELDS)
    if fields is None or rest:
        return None
    return Rejection(fields["reason"], fields["is_final"], fields.get("data"), _pause(fields.get("retry_in_s")))


def nack_values(reason: str, retry_in_s: float | None = None, *, final: bool = False) -> tuple[dict[str, Any]]:
    """Return the acknowledgement's arguments that reject a queue's message.

    Args:
        reason: The reason.
        retry_in_s: Seconds until the next delivery; ``None`` leaves the delay to the server.
        final: Whether there shall be no next delivery.
    """
    nack: dict[str, Any] = {"nack": reason}
    if retry_in_s is not None:
        nack["retry_in"] = retry_in_s
    if final:
        nack["final"] = True
    return (nack,)


def read_nack(arguments: list[Any]) -> Rejection | None:
    """Read an acknowledgement of a queue's message.

    Args:
        arguments: The acknowledgement's arguments.

    Returns:
        The rejection, if the argument has the form ``{nack: "why", retry_in: seconds, final: true}``, of which only
        ``nack`` is needed. All others acknowledge and return ``None``: people write ``ack("ok")``, and
        ``ack({status: "ok"})``.
    """
    if len(arguments) != 1 or not isinstance(arguments[0], dict):
        return None
    nack: dict[str, Any] = arguments[0]
    reason = nack.get("nack")
    if not reason:
        return None
    text = reason if isinstance(reason, str) else "rejected"
    is_final = nack.get("final") is True
    return Rejection(text[:_LONGEST_REASON], is_final=is_final, retry_in_s=_pause(nack.get("retry_in")))


def _pause(value: object) -> float | None:
    # NaN compares false, and a whole number may be too large for a float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LONGEST_PAUSE_S:
        return None
    return float(value)
