"""The packets of Socket.IO 5, independent of their encoding: the types, and the rules for each type.

Source: Socket.IO protocol, revision 5 ("Packet encoding").
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

from waypost.errors import LimitExceeded, MalformedPacket

__all__ = ["EXPECTED", "MAX_ACK_ID", "RESERVED_EVENTS", "Packet", "PacketType", "check_packet"]

MAX_ACK_ID = 999_999_999_999_999
"""The largest ack id. JavaScript keeps every number of 15 digits exactly."""

RESERVED_EVENTS = frozenset(
    ("connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener")
)
"""Event names that no packet may carry, because Socket.IO uses them itself."""


class PacketType(IntEnum):
    """The types of Socket.IO packets. The two binary types of the wire are decoded as EVENT and ACK."""

    CONNECT = 0
    DISCONNECT = 1
    EVENT = 2
    ACK = 3
    CONNECT_ERROR = 4


class Packet(NamedTuple):
    """One decoded Socket.IO packet.

    Attributes:
        type: The packet's type.
        namespace: The packet's namespace, with its leading slash.
        data: EVENT: ``[name, *args]``; ACK: ``[*args]``; CONNECT: an object or ``None``; CONNECT_ERROR: an object or
            a string; DISCONNECT: ``None``.
        ack_id: EVENT: the id for the acknowledgement, or ``None`` if none is requested; ACK: the id of the event.
    """

    type: PacketType
    namespace: str = "/"
    data: Any = None
    ack_id: int | None = None


EXPECTED = (
    "CONNECT with an object or nothing",
    "DISCONNECT with nothing",
    "EVENT with an array that begins with an event name that is not reserved",
    "ACK with an id and an array",
    "CONNECT_ERROR with an object or a string",
)
"""The rule for the packets of each type, in words."""


def check_packet(packet: Packet, *, max_namespace_length: int) -> None:
    """Check a packet against the rules of Socket.IO. The JSON codec has these checks built in.

    Args:
        packet: The packet that a parser decoded; its attributes may be anything.
        max_namespace_length: The longest namespace, in characters.

    Raises:
        MalformedPacket: The packet breaks a rule.
        LimitExceeded: The packet's namespace is too long.
    """
    values: tuple[Any, ...] = packet
    kind, namespace, data, ack_id = values
    if kind.__class__ is not PacketType:
        raise MalformedPacket("a Socket.IO packet type from 0 to 4", kind)
    if not isinstance(namespace, str) or not namespace.startswith("/") or "," in namespace:
        raise MalformedPacket('a namespace that starts with "/" and has no comma', namespace)
    if len(namespace) > max_namespace_length:
        raise LimitExceeded("characters in a namespace", max_namespace_length, len(namespace))
    if ack_id is not None and (ack_id.__class__ is not int or not 0 <= ack_id <= MAX_ACK_ID):
        raise MalformedPacket(f"an ack id from 0 to {MAX_ACK_ID}", ack_id)
    if not _fits(kind, data) or (kind is PacketType.ACK and ack_id is None):
        raise MalformedPacket(EXPECTED[kind], data)
    if ack_id is not None and kind not in (PacketType.EVENT, PacketType.ACK):
        raise MalformedPacket("an ack id on EVENT and ACK only", ack_id)


def _fits(kind: PacketType, data: Any) -> bool:
    match kind:
        case PacketType.EVENT:
            return (
                isinstance(data, list) and bool(data) and isinstance(data[0], str) and data[0] not in RESERVED_EVENTS
            )
        case PacketType.ACK:
            return isinstance(data, list)
        case PacketType.CONNECT:
            return data is None or isinstance(data, dict)
        case PacketType.CONNECT_ERROR:
            return isinstance(data, dict | str)
        case PacketType.DISCONNECT:
            return data is None
