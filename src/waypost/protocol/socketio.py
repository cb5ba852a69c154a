"""Socket.IO protocol 5 in JSON: packets to Engine.IO frames and back. This module is a `Codec`.

Text is ``type[attachments-][/namespace,][ack id]json``, here always with the Engine.IO "4" before it;
binary values are replaced by placeholders and follow, each in a frame of its own. What is encoded once
can be sent to many: `JsonEvent`.

Where a value has no exact JSON form, the encoder does what ``JSON.stringify`` does: NaN and infinities
become ``null``, tuples become arrays, and keys that are no strings become strings. An integer beyond
64 bits becomes a number in floating point, which is all that JavaScript would keep of it. JavaScript keeps
integers exactly up to 2**53; beyond that, send text.

What comes in is read as JavaScript reads it: of duplicate keys the last one counts, half a surrogate pair is
U+FFFD, an integer beyond 64 bits is a float. Refused is what no ``JSON.stringify`` writes: NaN, infinities, numbers
beyond a float's range however written, and more than 1024 levels. Values are sent up to 254 levels deep.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from waypost.errors import EncodingFailed, LimitExceeded, MalformedPacket
from waypost.protocol.engineio import Frame
from waypost.protocol.packet import EXPECTED, MAX_ACK_ID, RESERVED_EVENTS, Packet, PacketType
from waypost.protocol.records import is_json, read_json, read_values, write_json
from waypost.protocol.rich_json import encode_rich, find_placeholders

__all__ = [
    "RESERVED_EVENTS",
    "Decoder",
    "JsonEvent",
    "Packet",
    "PacketType",
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
    """An event in its encoded form: made once, sent to many, stored as it is.

    Make one with `encode_event` or `restore_event`. It is immutable; what it keeps besides are the frames
    it made last, because a broadcast asks for the same ones for every socket.

    Attributes:
        namespace: The namespace it belongs to.
        size: How large it is in bytes, roughly: its text and its attachments.
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
    def event(self) -> str:
        """The event's name."""
        quoted = _EVENT_NAME.match(self._json, 1)
        return str(orjson.loads(quoted[0])) if quoted else ""

    def frames(self) -> tuple[Frame, ...]:
        """Give the event as it is: its text frame, then its attachments."""
        if self._frames is None:
            self._frames = (self._head + self._json.decode(), *self._binary)
        return self._frames

    def frames_with_offset(self, offset: str) -> tuple[Frame, ...]:
        """Give the event with its position in the journal as the last argument.

        Args:
            offset: The position, as the client will send it back.

        Returns:
            Its text frame, then its attachments.
        """
        if offset != self._offset:
            text = self.frames()[0]
            assert isinstance(text, str)
            self._offset_frames = (f"{text[:-1]},{orjson.dumps(offset).decode()}]", *self._binary)
            self._offset = offset
        return self._offset_frames

    def frames_with_ack(self, ack_id: int) -> tuple[Frame, ...]:
        """Give the event with a request to acknowledge it.

        Args:
            ack_id: The id that the acknowledgement will carry, from 0 to 999 999 999 999 999.

        Returns:
            Its text frame, then its attachments.
        """
        return (f"{self._head}{ack_id}{self._json.decode()}", *self._binary)

    def to_record(self) -> bytes:
        """Give the event as bytes for storage; the namespace is not in it.

        Returns:
            Bytes that `restore_event` takes, in this version of Waypost and in later ones.
        """
        return write_json(self._json, self._binary)


def restore_event(record: bytes, namespace: str) -> JsonEvent:
    """Bring an event back from storage, whichever parser wrote it.

    Args:
        record: What an event's ``to_record`` gave.
        namespace: The namespace it belongs to.

    Returns:
        The same event.

    Raises:
        MalformedPacket: These bytes are no such record.
        EncodingFailed: Another parser wrote it, and JSON can't carry what is in it.
    """
    if is_json(record):
        return JsonEvent(namespace, *read_json(record))
    event, *args = read_values(record)
    return encode_event(namespace, event, args)


def encode_event(namespace: str, event: str, args: Sequence[Any]) -> JsonEvent:
    """Encode an event, once for all who will get it.

    Args:
        namespace: The namespace it belongs to, with its leading slash.
        event: The event's name.
        args: Its arguments: whatever JSON can carry, and ``bytes``, ``bytearray`` and ``memoryview``
            anywhere in them.

    Returns:
        The encoded event.

    Raises:
        EncodingFailed: The name is reserved or no string, or an argument can't be encoded.
    """
    if not isinstance(event, str):
        raise EncodingFailed(f"event {event!r}", "an event's name is a string")
    if event in RESERVED_EVENTS:
        raise EncodingFailed(f"event {event!r}", "the name is reserved")
    try:
        return JsonEvent(namespace, orjson.dumps((event, *args)))
    except TypeError:
        json, attachments = encode_rich(f"event {event!r}", (event, *args))
        return JsonEvent(namespace, json, attachments)


def encode_ack(namespace: str, ack_id: int, args: Sequence[Any]) -> tuple[Frame, ...]:
    """Encode the acknowledgement of an event.

    Args:
        namespace: The namespace the event came in.
        ack_id: The id that the event carried.
        args: What to answer, in the same kinds of values as an event's arguments.

    Returns:
        Its text frame, then its attachments.

    Raises:
        EncodingFailed: An argument can't be encoded.
    """
    attachments: tuple[bytes, ...] = ()
    try:
        json = orjson.dumps(tuple(args))
    except TypeError:
        json, attachments = encode_rich(f"ack {ack_id}", tuple(args))
    if not attachments and namespace == "/":
        return (f"43{ack_id}{json.decode()}",)
    return (f"{_head(3, namespace, len(attachments))}{ack_id}{json.decode()}", *attachments)


def encode_connect(namespace: str, payload: dict[str, Any] | None) -> tuple[Frame, ...]:
    """Encode the request to join a namespace, or the answer to it.

    Args:
        namespace: The namespace.
        payload: The client's auth, or the server's answer; ``None`` sends none.

    Returns:
        One text frame.

    Raises:
        EncodingFailed: The payload can't be encoded; binary values can't be here.
    """
    if payload is None:
        return (_head(0, namespace, 0),)
    return (_head(0, namespace, 0) + _encode_text("CONNECT", payload),)


def encode_disconnect(namespace: str) -> tuple[Frame, ...]:
    """Encode that one side leaves a namespace.

    Args:
        namespace: The namespace.

    Returns:
        One text frame.
    """
    return (_head(1, namespace, 0),)


def encode_connect_error(namespace: str, payload: Any) -> tuple[Frame, ...]:
    """Encode the refusal of a request to join a namespace.

    Args:
        namespace: The namespace.
        payload: An object with ``message`` and, if there is any, ``data``; Socket.IO 2 takes any value.

    Returns:
        One text frame.

    Raises:
        EncodingFailed: The payload can't be encoded; binary values can't be here.
    """
    return (_head(4, namespace, 0) + _encode_text("CONNECT_ERROR", payload),)


def _head(wire_type: int, namespace: str, attachments: int) -> str:
    head = f"4{wire_type + 3}{attachments}-" if attachments else f"4{wire_type}"
    return head if namespace == "/" else f"{head}{namespace},"


def _encode_text(what: str, payload: object) -> str:
    json, attachments = encode_rich(what, payload)
    if attachments:
        raise EncodingFailed(what, "this packet can't carry binary values")
    return json.decode()


# ---------------------------------------------------------------------------------------------- decoding

_MAX_ACK_DIGITS = len(str(MAX_ACK_ID))
_FIRST_ATTACHMENTS = 5  # the wire types from here on have attachments
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
    """A binary packet whose attachments are still coming."""

    packet: Packet
    count: int
    places: list[tuple[Any, Any, int]]
    attachments: list[bytes] = field(default_factory=list)
    size: int = 0


class Decoder:
    """Reads the Socket.IO packets of one connection, on either side of it.

    Feed it every Engine.IO message in order; once it has raised, close the connection and feed no more.
    It is as strict as Node's, and stricter in these: an event's name is a string (Node takes numbers
    too), EVENT and ACK have a payload, ids come on EVENT and ACK only and have at most 15 digits. As with
    Node's, an attachment may stand in several places or in none.

    Args:
        max_attachments: The most attachments that one packet may have.
        max_attachment_bytes: The most bytes that the attachments of one packet may have together.
        max_namespace_length: The longest namespace that is accepted, in characters.
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

    def feed(self, message: Frame) -> Packet | None:
        """Take one Engine.IO message.

        Args:
            message: Text with its leading "4", or the bytes of an attachment.

        Returns:
            The packet that is complete with it, or ``None`` when attachments are still to come.

        Raises:
            MalformedPacket: It can't be read, or may not come here.
            LimitExceeded: It has too many attachments, or too large ones, or too long a namespace.
        """
        if self._assembly is not None:
            return self._attach(self._assembly, message)
        if not isinstance(message, str):
            raise MalformedPacket("a Socket.IO packet, no attachment being awaited", message)
        return self._decode_plain(message) or self._decode(message)

    def _decode_plain(self, message: str) -> Packet | None:
        """Read an event or ack of the main namespace without attachments, as almost all are: 1.3 us, not 1.8."""
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
            raise LimitExceeded("attachments of a packet", self._max_attachments, count)
        self._assembly = _Assembly(packet, count, find_placeholders(packet.data, count, message))

    def _attach(self, assembly: _Assembly, message: Frame) -> Packet | None:
        if isinstance(message, str):
            raise MalformedPacket("a binary attachment", message)
        assembly.size += len(message)
        if assembly.size > self._max_attachment_bytes:
            raise LimitExceeded("bytes in a packet's attachments", self._max_attachment_bytes, assembly.size)
        assembly.attachments.append(message)
        if len(assembly.attachments) < assembly.count:
            return None
        self._assembly = None
        for container, key, number in assembly.places:
            container[key] = assembly.attachments[number]
        return assembly.packet


def make_decoder(*, max_attachments: int, max_attachment_bytes: int, max_namespace_length: int = 255) -> Decoder:
    """Make a connection's `Decoder`."""
    return Decoder(
        max_attachments=max_attachments,
        max_attachment_bytes=max_attachment_bytes,
        max_namespace_length=max_namespace_length,
    )


def _payload(kind: PacketType, message: str, start: int, ack_id: int | None) -> Any:
    """Read a packet's payload and hold it against the rules of the packet's type."""
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
        # JavaScript cuts strings between surrogates and sends the halves: U+FFFD, as TextEncoder does.
        text = _ESCAPES.sub(lambda escape: "\\ufffd" if escape[1] else escape[0], text)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise MalformedPacket("a payload in JSON", message) from error
