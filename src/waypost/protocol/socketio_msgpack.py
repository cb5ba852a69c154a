"""Socket.IO protocol 5 in msgpack, as ``socket.io-msgpack-parser`` speaks it. This module is a `Codec`.

A packet is one binary frame: a map of ``type``, ``nsp``, ``data`` and optionally ``id``. Binary values are part of
the map. The rules are those of the JSON codec, so keys of maps are strings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from waypost.errors import EncodingFailed, MalformedPacket
from waypost.protocol.decoded_size import msgpack_size
from waypost.protocol.engineio import Frame
from waypost.protocol.packet import RESERVED_EVENTS, Packet, PacketType, check_packet
from waypost.protocol.records import is_msgpack, read_msgpack, read_values, write_msgpack
from waypost.protocol.rich_json import JsonDefault
from waypost.protocol.rich_msgpack import pack, unpack

__all__ = [
    "Decoder",
    "MsgpackEvent",
    "decoded_size",
    "encode_ack",
    "encode_connect",
    "encode_connect_error",
    "encode_disconnect",
    "encode_event",
    "make_decoder",
    "restore_event",
]

# ---------------------------------------------------------------------------------------------- encoding

_EVENT_HEAD = b"\x83\xa4type\x02\xa3nsp"
_EVENT_HEAD_WITH_ID = b"\x84\xa4type\x02\xa2id"
_NAMESPACE = b"\xa3nsp"
_DATA = b"\xa4data"


class MsgpackEvent:
    """An encoded event: encoded once, sent to many, stored unchanged.

    `encode_event` and `restore_event` make it. It is immutable, except for a cache of the last frames: a broadcast
    asks for the same frames for every socket.

    Attributes:
        namespace: The event's namespace.
        size: The approximate size in bytes.
    """

    __slots__ = ("_array", "_count", "_frames", "_items", "_name", "_offset", "_offset_frames", "namespace", "size")

    def __init__(self, namespace: str, array: bytes) -> None:
        self.namespace = namespace
        self.size = len(array) + len(namespace)
        self._array = array
        self._count, start = _read_array_header(array)
        self._items = array[start:]
        self._name = pack("a namespace", namespace)
        self._frames: tuple[Frame, ...] | None = None
        self._offset: str | None = None
        self._offset_frames: tuple[Frame, ...] = ()

    def __repr__(self) -> str:
        return f"<MsgpackEvent {self.event!r} in {self.namespace}, {self.size} bytes>"

    @property
    def event(self) -> str:
        """The event's name."""
        return str(unpack(self._array)[0])

    def frames(self) -> tuple[Frame, ...]:
        """Return the event as one frame."""
        if self._frames is None:
            self._frames = (b"".join((_EVENT_HEAD, self._name, _DATA, self._array)),)
        return self._frames

    def frames_with_offset(self, offset: str) -> tuple[Frame, ...]:
        """Return the event with its position in the journal as the last argument.

        Args:
            offset: The position; the client sends it back to recover.

        Returns:
            One frame.
        """
        if offset != self._offset:
            header = _array_header(self._count + 1)
            argument = pack("an offset", offset)
            self._offset_frames = (b"".join((_EVENT_HEAD, self._name, _DATA, header, self._items, argument)),)
            self._offset = offset
        return self._offset_frames

    def frames_with_ack(self, ack_id: int) -> tuple[Frame, ...]:
        """Return the event with a request for an acknowledgement.

        Args:
            ack_id: The id for the acknowledgement, from 0 to 999 999 999 999 999.

        Returns:
            One frame.
        """
        number = pack("an ack id", ack_id)
        return (b"".join((_EVENT_HEAD_WITH_ID, number, _NAMESPACE, self._name, _DATA, self._array)),)

    def to_record(self) -> bytes:
        """Return the event as bytes for the store, without its namespace.

        Returns:
            A record that `restore_event` reads, in this version of Waypost and in later ones.
        """
        return write_msgpack(self._array)


def _array_header(count: int) -> bytes:
    if count < 16:
        return bytes((0x90 | count,))
    return b"\xdc" + count.to_bytes(2, "big") if count < 65536 else b"\xdd" + count.to_bytes(4, "big")


def _read_array_header(array: bytes) -> tuple[int, int]:
    """Return an array's number of items, and the place where the first item starts."""
    if array[0] & 0xF0 == 0x90:
        return array[0] & 0x0F, 1
    end = 3 if array[0] == 0xDC else 5
    return int.from_bytes(array[1:end], "big"), end


def restore_event(record: bytes, namespace: str) -> MsgpackEvent:
    """Decode an event from its record, which any parser may have written.

    Args:
        record: The result of an event's ``to_record``.
        namespace: The event's namespace.

    Returns:
        The same event.

    Raises:
        MalformedPacket: The bytes are not a record.
        EncodingFailed: Another parser wrote the record, and msgpack can't carry a value in it.
    """
    values = read_values(record)
    if is_msgpack(record):
        return MsgpackEvent(namespace, read_msgpack(record))
    event, *args = values
    return encode_event(namespace, event, args)


def encode_event(namespace: str, event: str, args: Sequence[Any], default: JsonDefault | None = None) -> MsgpackEvent:
    """Encode an event once for all its recipients.

    Args:
        namespace: The event's namespace, with its leading slash.
        event: The event's name.
        args: The event's arguments: any values that msgpack can carry.
        default: The application's function for values of other types.

    Returns:
        The encoded event.

    Raises:
        EncodingFailed: The name is not a string or is reserved, or an argument can't be encoded.
    """
    if not isinstance(event, str):
        raise EncodingFailed(f"event {event!r}", "an event's name is a string")
    if event in RESERVED_EVENTS:
        raise EncodingFailed(f"event {event!r}", "the name is reserved")
    return MsgpackEvent(namespace, pack(f"event {event!r}", (event, *args), default, ("args", args)))


def encode_ack(
    namespace: str, ack_id: int, args: Sequence[Any], default: JsonDefault | None = None
) -> tuple[Frame, ...]:
    """Encode the acknowledgement of an event.

    Args:
        namespace: The event's namespace.
        ack_id: The id that the event carried.
        args: The answer: the same kinds of values as an event's arguments.
        default: The application's function for values of other types.

    Returns:
        One frame.

    Raises:
        EncodingFailed: An argument can't be encoded.
    """
    packet = {"type": 3, "id": ack_id, "nsp": namespace, "data": tuple(args)}
    return (pack(f"ack {ack_id}", packet, default, ("args", args)),)


def encode_connect(
    namespace: str, payload: dict[str, Any] | None, default: JsonDefault | None = None
) -> tuple[Frame, ...]:
    """Encode a CONNECT packet: the client's request to join a namespace, or the server's answer.

    Args:
        namespace: The namespace.
        payload: The client's auth, or the server's answer; ``None`` sends no payload.
        default: The application's function for values of other types.

    Returns:
        One frame.

    Raises:
        EncodingFailed: The payload can't be encoded.
    """
    packet: dict[str, Any] = {"type": 0, "nsp": namespace}
    if payload is not None:
        packet["data"] = payload
    return (pack("CONNECT", packet, default, ("payload", payload)),)


def encode_disconnect(namespace: str) -> tuple[Frame, ...]:
    """Encode a DISCONNECT packet, with which one side leaves a namespace.

    Args:
        namespace: The namespace.

    Returns:
        One frame.
    """
    return (pack("DISCONNECT", {"type": 1, "nsp": namespace}),)


def encode_connect_error(namespace: str, payload: Any, default: JsonDefault | None = None) -> tuple[Frame, ...]:
    """Encode a CONNECT_ERROR packet, with which a server refuses a client.

    Args:
        namespace: The namespace.
        payload: An object with ``message`` and optionally ``data``. For clients of Socket.IO 2, any value.
        default: The application's function for values of other types.

    Returns:
        One frame.

    Raises:
        EncodingFailed: The payload can't be encoded.
    """
    return (pack("CONNECT_ERROR", {"type": 4, "nsp": namespace, "data": payload}, default, ("payload", payload)),)


# ---------------------------------------------------------------------------------------------- decoding

_KINDS = dict(enumerate(PacketType))


class Decoder:
    """Decodes the Socket.IO packets of one connection, on the server or the client. Each message is one packet.

    Args:
        max_namespace_length: The longest namespace, in characters.
    """

    __slots__ = ("_max_namespace_length",)

    def __init__(self, *, max_namespace_length: int = 255) -> None:
        self._max_namespace_length = max_namespace_length

    @property
    def awaits_ack(self) -> bool:
        """False: each message is one packet."""
        return False

    def drop_attachments(self) -> None:
        """Do nothing: a packet has no attachments."""

    def feed(self, message: Frame) -> Packet | None:
        """Take one Engine.IO message.

        Args:
            message: The bytes of a packet.

        Returns:
            The packet.

        Raises:
            MalformedPacket: The message is unreadable, or not allowed here.
            LimitExceeded: The packet's namespace is too long.
        """
        if not isinstance(message, bytes):
            raise MalformedPacket("a binary message, as socket.io-msgpack-parser sends them", message)
        members = unpack(message)
        if not isinstance(members, dict):
            raise MalformedPacket("a packet with type, nsp and data", message)
        wire_type: Any = members.get("type")
        kind = _KINDS.get(wire_type) if wire_type.__class__ is int else None
        if kind is None:
            raise MalformedPacket("a Socket.IO packet type from 0 to 4", message)
        namespace: Any = members.get("nsp")
        packet = Packet(kind, namespace, members.get("data"), members.get("id"))
        check_packet(packet, max_namespace_length=self._max_namespace_length)
        return packet


def make_decoder(*, max_attachments: int, max_attachment_bytes: int, max_namespace_length: int = 255) -> Decoder:
    """Make the decoder of a connection. A packet is one message, so the limits on attachments do not apply."""
    return Decoder(max_namespace_length=max_namespace_length)


def decoded_size(message: Frame, packet: Packet | None) -> int:
    """Estimate how many bytes a message takes in memory once it is decoded."""
    return msgpack_size(message, None if packet is None else packet.data)
