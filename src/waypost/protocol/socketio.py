"""Socket.IO protocol 5 in JSON: packets to Engine.IO frames and back. This module is a `Codec`.

The text frame is ``type[attachments-][/namespace,][ack id]json``, here always after the Engine.IO type "4". Each
binary value becomes a placeholder and follows in a frame of its own. A `JsonEvent` is encoded once and sent to many.

Values without an exact JSON form are encoded as ``JSON.stringify`` encodes them: NaN and infinities become ``null``,
tuples become arrays, and keys of other types become strings. An integer beyond 64 bits becomes a floating-point
number, because JavaScript would keep no more of it. JavaScript keeps integers exactly up to 2**53; send larger ones
as text.

Input is decoded as JavaScript decodes it: of duplicate keys the last one wins, half a surrogate pair becomes U+FFFD,
and an integer beyond 64 bits becomes a float. Input that ``JSON.stringify`` never produces is refused: NaN,
infinities, numbers beyond the range of a float, and more than 1024 levels. The encoder allows 254 levels.

Source: Socket.IO protocol, revision 5 ("Packet encoding").
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from waypost.errors import EncodingFailed, LimitExceeded, MalformedPacket
from waypost.protocol.decoded_size import json_size as decoded_size
from waypost.protocol.engineio import Frame
from waypost.protocol.packet import EXPECTED, MAX_ACK_ID, RESERVED_EVENTS, Packet, PacketType
from waypost.protocol.records import is_json, read_json, read_values, write_json
from waypost.protocol.rich_json import JsonDefault, encode_rich, find_placeholders

__all__ = [
    "RESERVED_EVENTS",
    "Decoder",
    "JsonEvent",
    "Packet",
    "PacketType",
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

_EVENT_HEAD = "42"
_EVENT_NAME = re.compile(rb'"(?:[^"\\]|\\.)*"')


class JsonEvent:
    """An encoded event: encoded once, sent to many, stored unchanged.

    `encode_event` and `restore_event` make it. It is immutable, except for a cache of the last frames: a broadcast
    asks for the same frames for every socket.

    Attributes:
        namespace: The event's namespace.
        size: The approximate size in bytes: text and attachments.
    """

    __slots__ = ("_binary", "_frames", "_head", "_json", "_offset", "_offset_frames", "namespace", "size")

    def __init__(self, namespace: str, json: bytes, attachments: tuple[bytes, ...] = ()) -> None:
        self.namespace = namespace
        self._json = json
        self._binary = attachments
        self._head = _EVENT_HEAD if namespace == "/" and not attachments else _head(2, namespace, len(attachments))
        self.size = len(json) + len(namespace)
        if attachments:
            self.size += sum(map(len, attachments))
        self._frames: tuple[Frame, ...] | None = None
        self._offset: str | None = None
        self._offset_frames: tuple[Frame, ...] = ()

    def __repr__(self) -> str:
        return f"<JsonEvent {self.event!r} in {self.namespace}, {self.size} bytes>"

    @property
    def attachments(self) -> int:
        """The number of binary attachments."""
        return len(self._binary)

    @property
    def event(self) -> str:
        """The event's name."""
        quoted = _EVENT_NAME.match(self._json, 1)
        return str(orjson.loads(quoted[0])) if quoted else ""

    def frames(self) -> tuple[Frame, ...]:
        """Return the event's text frame, then its attachments."""
        if self._frames is None:
            self._frames = (self._head + self._json.decode(), *self._binary)
        return self._frames

    def frames_with_offset(self, offset: str) -> tuple[Frame, ...]:
        """Return the event with its position in the journal as the last argument.

        Args:
            offset: The position; the client sends it back to recover.

        Returns:
            The text frame, then the attachments.
        """
        if offset != self._offset:
            text = self.frames()[0]
            assert isinstance(text, str)
            self._offset_frames = (f"{text[:-1]},{orjson.dumps(offset).decode()}]", *self._binary)
            self._offset = offset
        return self._offset_frames

    def frames_with_ack(self, ack_id: int) -> tuple[Frame, ...]:
        """Return the event with a request for an acknowledgement.

        Args:
            ack_id: The id for the acknowledgement, from 0 to 999 999 999 999 999.

        Returns:
            The text frame, then the attachments.
        """
        return (f"{self._head}{ack_id}{self._json.decode()}", *self._binary)

    def to_record(self) -> bytes:
        """Return the event as bytes for the store, without its namespace.

        Returns:
            A record that `restore_event` reads, in this version of Waypost and in later ones.
        """
        return write_json(self._json, self._binary)


def restore_event(record: bytes, namespace: str) -> JsonEvent:
    """Decode an event from its record, which any parser may have written.

    Args:
        record: The result of an event's ``to_record``.
        namespace: The event's namespace.

    Returns:
        The same event.

    Raises:
        MalformedPacket: The bytes are not a record.
        EncodingFailed: Another parser wrote the record, and JSON can't carry a value in it.
    """
    if is_json(record):
        return JsonEvent(namespace, *read_json(record))
    event, *args = read_values(record)
    return encode_event(namespace, event, args)


def encode_event(namespace: str, event: str, args: Sequence[Any], default: JsonDefault | None = None) -> JsonEvent:
    """Encode an event once for all its recipients.

    Args:
        namespace: The event's namespace, with its leading slash.
        event: The event's name.
        args: The event's arguments: any values that JSON can carry, with ``bytes``, ``bytearray`` and ``memoryview``
            anywhere in them.
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
    try:
        return JsonEvent(namespace, orjson.dumps((event, *args)))
    except TypeError:
        json, attachments = encode_rich(f"event {event!r}", (event, *args), default, ("args", args))
        return JsonEvent(namespace, json, attachments)


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
        The text frame, then the attachments.

    Raises:
        EncodingFailed: An argument can't be encoded.
    """
    attachments: tuple[bytes, ...] = ()
    try:
        json = orjson.dumps(tuple(args))
    except TypeError:
        json, attachments = encode_rich(f"ack {ack_id}", tuple(args), default, ("args", args))
    if not attachments and namespace == "/":
        return (f"43{ack_id}{json.decode()}",)
    return (f"{_head(3, namespace, len(attachments))}{ack_id}{json.decode()}", *attachments)


def encode_connect(
    namespace: str, payload: dict[str, Any] | None, default: JsonDefault | None = None
) -> tuple[Frame, ...]:
    """Encode a CONNECT packet: the client's request to join a namespace, or the server's answer.

    Args:
        namespace: The namespace.
        payload: The client's auth, or the server's answer; ``None`` sends no payload.
        default: The application's function for values of other types.

    Returns:
        One text frame.

    Raises:
        EncodingFailed: The payload can't be encoded, or contains binary values.
    """
    if payload is None:
        return (_head(0, namespace, 0),)
    return (_head(0, namespace, 0) + _encode_text("CONNECT", payload, default),)


def encode_disconnect(namespace: str) -> tuple[Frame, ...]:
    """Encode a DISCONNECT packet, with which one side leaves a namespace.

    Args:
        namespace: The namespace.

    Returns:
        One text frame.
    """
    return (_head(1, namespace, 0),)


def encode_connect_error(namespace: str, payload: Any, default: JsonDefault | None = None) -> tuple[Frame, ...]:
    """Encode a CONNECT_ERROR packet, with which a server refuses a client.

    Args:
        namespace: The namespace.
        payload: An object with ``message`` and optionally ``data``. For clients of Socket.IO 2, any value.
        default: The application's function for values of other types.

    Returns:
        One text frame.

    Raises:
        EncodingFailed: The payload can't be encoded, or contains binary values.
    """
    return (_head(4, namespace, 0) + _encode_text("CONNECT_ERROR", payload, default),)


def _head(wire_type: int, namespace: str, attachments: int) -> str:
    head = f"4{wire_type + 3}{attachments}-" if attachments else f"4{wire_type}"
    return head if namespace == "/" else f"{head}{namespace},"


def _encode_text(what: str, payload: object, default: JsonDefault | None) -> str:
    json, attachments = encode_rich(what, payload, default)
    if attachments:
        raise EncodingFailed(what, "this packet can't carry binary values")
    return json.decode()


# ---------------------------------------------------------------------------------------------- decoding

_MAX_ACK_DIGITS = len(str(MAX_ACK_ID))
_FIRST_ATTACHMENTS = 5  # wire types 5 and 6 have attachments
_HEAD = re.compile(r"4([0-6])(?:([0-9]{1,15})-)?(?:(/[^,]*)(?:,|\Z))?([0-9]*)")
_KINDS = (*PacketType, PacketType.EVENT, PacketType.ACK)
_EVENT = PacketType.EVENT
_ACK = PacketType.ACK
_OPENING: tuple[tuple[str, ...], ...] = (("{",), (), ("[",), ("[",), ("{", '"'))
_ESCAPES = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)


@dataclass(slots=True)
class _Assembly:
    """A binary packet that waits for its attachments."""

    packet: Packet
    count: int
    places: list[tuple[Any, Any, int]]
    attachments: list[bytes] = field(default_factory=list)
    size: int = 0
    keeps: bool = True


class Decoder:
    """Decodes the Socket.IO packets of one connection, on the server or the client.

    Feed it every Engine.IO message in order. After an error, close the connection and feed no more.

    The decoder is as strict as Node's, and stricter in three points: an event's name is a string (Node accepts
    numbers), EVENT and ACK have a payload, and only EVENT and ACK have an id, of at most 15 digits. As in Node's, an
    attachment may appear in several places or in none.

    Args:
        max_attachments: The most attachments of one packet, from 0.
        max_attachment_bytes: The most bytes that the attachments of one packet have together.
        max_namespace_length: The longest namespace, in characters.
    """

    __slots__ = ("_assembly", "_max_attachment_bytes", "_max_attachments", "_max_namespace_length")

    def __init__(
        self, *, max_attachments: int = 10, max_attachment_bytes: int, max_namespace_length: int = 255
    ) -> None:
        self._max_attachments = max_attachments
        self._max_attachment_bytes = max_attachment_bytes
        self._max_namespace_length = max_namespace_length
        self._assembly: _Assembly | None = None

    @property
    def pending(self) -> bool:
        """Whether a packet is waiting for its attachments."""
        return self._assembly is not None

    @property
    def awaits_ack(self) -> bool:
        """Whether an acknowledgement is waiting for its attachments."""
        return self._assembly is not None and self._assembly.packet.type is _ACK

    def drop_attachments(self) -> None:
        """Let the attachments of the packet that waits for them be empty."""
        if self._assembly is not None:
            self._assembly.keeps = False
            self._assembly.attachments = [b""] * len(self._assembly.attachments)

    def feed(self, message: Frame) -> Packet | None:
        """Take one Engine.IO message.

        Args:
            message: Text with its leading "4", or the bytes of an attachment.

        Returns:
            The packet that this message completes, or ``None`` while attachments are missing.

        Raises:
            MalformedPacket: The message is unreadable, or not allowed at this point.
            LimitExceeded: The packet has too many or too large attachments, or its namespace is too long.
        """
        if self._assembly is not None:
            return self._attach(self._assembly, message)
        if not isinstance(message, str):
            raise MalformedPacket("a Socket.IO packet, no attachment being awaited", message)
        return self._decode_plain(message) or self._decode(message)

    def _decode_plain(self, message: str) -> Packet | None:
        """Decode an event or ack of ``/`` without attachments, the most common packet: 1.3 us instead of 1.8 us."""
        start = message.find("[", 2, 2 + _MAX_ACK_DIGITS + 1)
        if start < 0 or not message.startswith(("42", "43")):
            return None
        digits = message[2:start]
        if digits and not (digits.isdecimal() and digits.isascii()):
            return None
        try:
            data = orjson.loads(message[start:])
        except orjson.JSONDecodeError:
            return None
        if message[1] == "3":
            return tuple.__new__(Packet, (_ACK, "/", data, int(digits))) if digits else None
        if not data or data[0].__class__ is not str or data[0] in RESERVED_EVENTS:
            return None
        return tuple.__new__(Packet, (_EVENT, "/", data, int(digits) if digits else None))

    def _decode(self, message: str) -> Packet | None:
        head = _HEAD.match(message)
        if head is None:
            raise MalformedPacket("a Socket.IO packet type from 0 to 6", message)
        number, count, namespace, digits = head.groups()
        wire_type = int(number)
        if (wire_type >= _FIRST_ATTACHMENTS) is (count is None):
            raise MalformedPacket("a number of attachments in binary packets only", message)
        if namespace is not None and len(namespace) > self._max_namespace_length:
            raise LimitExceeded("characters in a namespace", self._max_namespace_length, len(namespace))
        if len(digits) > _MAX_ACK_DIGITS:
            raise MalformedPacket(f"an ack id of at most {_MAX_ACK_DIGITS} digits", message)
        kind = _KINDS[wire_type]
        ack_id = int(digits) if digits else None
        packet = Packet(kind, namespace or "/", _payload(kind, message, head.end(), ack_id), ack_id)
        if count is None:
            return packet
        self._await(packet, int(count), message)
        return None

    def _await(self, packet: Packet, count: int, message: str) -> None:
        if count == 0:
            raise MalformedPacket("at least one attachment in a binary packet", message)
        if count > self._max_attachments:
            raise LimitExceeded("attachments of a packet", self._max_attachments, count, "max_attachments")
        self._assembly = _Assembly(packet, count, find_placeholders(packet.data, count, message))

    def _attach(self, assembly: _Assembly, message: Frame) -> Packet | None:
        if isinstance(message, str):
            raise MalformedPacket("a binary attachment", message)
        assembly.size += len(message)
        if assembly.size > self._max_attachment_bytes:
            most = self._max_attachment_bytes
            raise LimitExceeded("bytes in a packet's attachments", most, assembly.size, "max_payload_bytes")
        assembly.attachments.append(message if assembly.keeps else b"")
        if len(assembly.attachments) < assembly.count:
            return None
        self._assembly = None
        for container, key, number in assembly.places:
            container[key] = assembly.attachments[number]
        return assembly.packet


def make_decoder(*, max_attachments: int, max_attachment_bytes: int, max_namespace_length: int = 255) -> Decoder:
    """Make the decoder of a connection; see `Decoder` for the arguments."""
    return Decoder(
        max_attachments=max_attachments,
        max_attachment_bytes=max_attachment_bytes,
        max_namespace_length=max_namespace_length,
    )


def _payload(kind: PacketType, message: str, start: int, ack_id: int | None) -> Any:
    """Decode a packet's payload, and check it against the rules of the packet's type."""
    if kind is _EVENT:
        return _parse_event(message, start)
    if (kind is _ACK) is (ack_id is None):
        raise MalformedPacket(EXPECTED[kind], message)
    if start == len(message) and kind in (PacketType.CONNECT, PacketType.DISCONNECT):
        return None
    if not message.startswith(_OPENING[kind], start):
        raise MalformedPacket(EXPECTED[kind], message)
    return _parse(message, start)


def _parse_event(message: str, start: int) -> Any:
    data = _parse(message, start)
    if data.__class__ is list and data and data[0].__class__ is str and data[0] not in RESERVED_EVENTS:
        return data
    raise MalformedPacket(EXPECTED[_EVENT], message)


def _parse(message: str, start: int) -> Any:
    text = message[start:]
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        # JavaScript may cut a string inside a surrogate pair. Each half becomes U+FFFD, as TextEncoder does it.
        text = _ESCAPES.sub(lambda escape: "\\ufffd" if escape[1] else escape[0], text)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise MalformedPacket("a payload in JSON", message) from error
