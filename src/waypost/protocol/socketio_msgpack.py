"""Socket.IO protocol 5 in msgpack, as ``socket.io-msgpack-parser`` speaks it. This module is a `Codec`.

A packet is one binary frame: a map of ``type``, ``nsp``, ``data`` and, if there is one, ``id``. Binary values are
part of it. What is accepted is what is accepted in JSON; so the keys of maps are text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from waypost.errors import EncodingFailed, MalformedPacket
from waypost.protocol.engineio import Frame
from waypost.protocol.packet import RESERVED_EVENTS, Packet, PacketType, check_packet
from waypost.protocol.records import is_msgpack, read_msgpack, read_values, write_msgpack
from waypost.protocol.rich_msgpack import pack, unpack

__all__ = [
    "Decoder",
    "MsgpackEvent",
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
    """An event in its encoded form: made once, sent to many, stored as it is.

    Make one with `encode_event` or `restore_event`. It is immutable; what it keeps besides are the frames
    it made last, because a broadcast asks for the same ones for every socket.

    Attributes:
        namespace: The namespace it belongs to.
        size: How large it is in bytes, roughly.
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
        """Give the event as it is, one frame."""
        if self._frames is None:
            self._frames = (b"".join((_EVENT_HEAD, self._name, _DATA, self._array)),)
        return self._frames

    def frames_with_offset(self, offset: str) -> tuple[Frame, ...]:
        """Give the event with its position in the journal as the last argument.

        Args:
            offset: The position, as the client will send it back.

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
        """Give the event with a request to acknowledge it.

        Args:
            ack_id: The id that the acknowledgement will carry, from 0 to 999 999 999 999 999.

        Returns:
            One frame.
        """
        number = pack("an ack id", ack_id)
        return (b"".join((_EVENT_HEAD_WITH_ID, number, _NAMESPACE, self._name, _DATA, self._array)),)

    def to_record(self) -> bytes:
        """Give the event as bytes for storage; the namespace is not in it.

        Returns:
            Bytes that `restore_event` takes, in this version of Waypost and in later ones.
        """
        return write_msgpack(self._array)


def _array_header(count: int) -> bytes:
    if count < 16:
        return bytes((0x90 | count,))
    return b"\xdc" + count.to_bytes(2, "big") if count < 65536 else b"\xdd" + count.to_bytes(4, "big")


def _read_array_header(array: bytes) -> tuple[int, int]:
    """Give the number of an array's items, and where they begin."""
    if array[0] & 0xF0 == 0x90:
        return array[0] & 0x0F, 1
    end = 3 if array[0] == 0xDC else 5
    return int.from_bytes(array[1:end], "big"), end


def restore_event(record: bytes, namespace: str) -> MsgpackEvent:
    """Bring an event back from storage, whichever parser wrote it.

    Args:
        record: What an event's ``to_record`` gave.
        namespace: The namespace it belongs to.

    Returns:
        The same event.

    Raises:
        MalformedPacket: These bytes are no such record.
        EncodingFailed: Another parser wrote it, and msgpack can't carry what is in it.
    """
    values = read_values(record)
    if is_msgpack(record):
        return MsgpackEvent(namespace, read_msgpack(record))
    event, *args = values
    return encode_event(namespace, event, args)


def encode_event(namespace: str, event: str, args: Sequence[Any]) -> MsgpackEvent:
    """Encode an event, once for all who will get it.

    Args:
        namespace: The namespace it belongs to, with its leading slash.
        event: The event's name.
        args: Its arguments: whatever msgpack can carry.

    Returns:
        The encoded event.

    Raises:
        EncodingFailed: The name is reserved or no string, or an argument can't be encoded.
    """
    if not isinstance(event, str):
        raise EncodingFailed(f"event {event!r}", "an event's name is a string")
    if event in RESERVED_EVENTS:
        raise EncodingFailed(f"event {event!r}", "the name is reserved")
    return MsgpackEvent(namespace, pack(f"event {event!r}", (event, *args)))


def encode_ack(namespace: str, ack_id: int, args: Sequence[Any]) -> tuple[Frame, ...]:
    """Encode the acknowledgement of an event.

    Args:
        namespace: The namespace the event came in.
        ack_id: The id that the event carried.
        args: What to answer, in the same kinds of values as an event's arguments.

    Returns:
        One frame.

    Raises:
        EncodingFailed: An argument can't be encoded.
    """
    packet = {"type": 3, "id": ack_id, "nsp": namespace, "data": tuple(args)}
    return (pack(f"ack {ack_id}", packet),)


def encode_connect(namespace: str, payload: dict[str, Any] | None) -> tuple[Frame, ...]:
    """Encode the request to join a namespace, or the answer to it.

    Args:
        namespace: The namespace.
        payload: The client's auth, or the server's answer; ``None`` sends none.

    Returns:
        One frame.

    Raises:
        EncodingFailed: The payload can't be encoded.
    """
    packet: dict[str, Any] = {"type": 0, "nsp": namespace}
    if payload is not None:
        packet["data"] = payload
    return (pack("CONNECT", packet),)


def encode_disconnect(namespace: str) -> tuple[Frame, ...]:
    """Encode that one side leaves a namespace.

    Args:
        namespace: The namespace.

    Returns:
        One frame.
    """
    return (pack("DISCONNECT", {"type": 1, "nsp": namespace}),)


def encode_connect_error(namespace: str, payload: Any) -> tuple[Frame, ...]:
    """Encode the refusal of a request to join a namespace.

    Args:
        namespace: The namespace.
        payload: An object with ``message`` and, if there is any, ``data``; Socket.IO 2 takes any value.

    Returns:
        One frame.

    Raises:
        EncodingFailed: The payload can't be encoded.
    """
    return (pack("CONNECT_ERROR", {"type": 4, "nsp": namespace, "data": payload}),)


# ---------------------------------------------------------------------------------------------- decoding

_KINDS = dict(enumerate(PacketType))


class Decoder:
    """Reads the Socket.IO packets of one connection, on either side of it. Every message is a packet.

    Args:
        max_namespace_length: The longest namespace that is accepted, in characters.
    """

    __slots__ = ("_max_namespace_length",)

    def __init__(self, *, max_namespace_length: int = 255) -> None:
        self._max_namespace_length = max_namespace_length

    def feed(self, message: Frame) -> Packet | None:
        """Take one Engine.IO message.

        Args:
            message: The bytes of a packet.

        Returns:
            The packet.

        Raises:
            MalformedPacket: It can't be read, or may not come here.
            LimitExceeded: It has too long a namespace.
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
    """Make a connection's `Decoder`; there are no attachments to limit, for a packet is one message."""
    return Decoder(max_namespace_length=max_namespace_length)
