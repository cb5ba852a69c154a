"""Parsers of the application's own: what one has to be able to do, and the codec made of it."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Protocol

from waypost.errors import EncodingFailed, MalformedPacket, ProtocolViolation
from waypost.protocol import socketio
from waypost.protocol.engineio import Frame
from waypost.protocol.packet import RESERVED_EVENTS, Packet, PacketType, check_packet
from waypost.protocol.records import read_values

__all__ = ["CustomCodec", "Parser", "ParserDecoder"]


class ParserDecoder(Protocol):
    """Reads the messages of one connection. Made by `Parser.make_decoder`."""

    def decode(self, message: str | bytes) -> Packet | None:
        """Take one message, as the other side's ``encode`` made it.

        Args:
            message: Text or bytes; from the network, so it may be anything.

        Returns:
            The packet that is complete with it, or ``None`` when more messages belong to it. It is checked by the
            rules of Socket.IO afterwards, so this need not do it.

        Raises:
            Exception: Anything raised means that the message can't be read; it closes this one connection.
        """
        ...


class Parser(Protocol):
    """What writes and reads packets; the same one has to be in use on both sides of a connection.

    It is called from one thread only. What is stored for recovery and in queues is stored in a form of Waypost's own,
    so another parser can be used after a restart; so arguments must be what JSON can carry, and ``bytes``.
    """

    def encode(self, packet: Packet) -> Sequence[str | bytes]:
        """Write a packet.

        Args:
            packet: The packet. Its data must not be changed.

        Returns:
            At least one message, text or bytes; they arrive in this order with nothing in between. CONNECT has to
            be a single one.

        Raises:
            Exception: Anything raised means that the packet can't be written; whoever emitted it gets
                `EncodingFailed`.
        """
        ...

    def make_decoder(self) -> ParserDecoder:
        """Make the decoder of a new connection."""
        ...


class CustomEvent:
    """An event for a parser of the application's own.

    Attributes:
        namespace: The namespace it belongs to.
        size: How large it is in bytes, roughly.
    """

    __slots__ = ("_codec", "_frames", "_offset", "_offset_frames", "_values", "namespace", "size")

    def __init__(self, codec: CustomCodec, namespace: str, values: list[Any]) -> None:
        self.namespace = namespace
        self._codec = codec
        self._values = values
        # At once, so that what can't be encoded is refused where it is emitted.
        self._frames = self._encode(values)
        self.size = sum(map(len, self._frames))
        self._offset: str | None = None
        self._offset_frames: tuple[Frame, ...] = ()

    def __repr__(self) -> str:
        return f"<CustomEvent {self.event!r} in {self.namespace}, {self.size} bytes>"

    @property
    def event(self) -> str:
        """The event's name."""
        return str(self._values[0])

    def frames(self) -> tuple[Frame, ...]:
        """Give the event as it is."""
        return self._frames

    def frames_with_offset(self, offset: str) -> tuple[Frame, ...]:
        """Give the event with its position in the journal as the last argument."""
        if offset != self._offset:
            self._offset_frames = self._encode([*self._values, offset])
            self._offset = offset
        return self._offset_frames

    def frames_with_ack(self, ack_id: int) -> tuple[Frame, ...]:
        """Give the event with a request to acknowledge it."""
        return self._encode(self._values, ack_id)

    def to_record(self) -> bytes:
        """Give the event for storage; raises `EncodingFailed` if JSON can't carry it."""
        name, *args = self._values
        return socketio.encode_event(self.namespace, name, args).to_record()

    def _encode(self, values: list[Any], ack_id: int | None = None) -> tuple[Frame, ...]:
        return self._codec.encode(Packet(PacketType.EVENT, self.namespace, values, ack_id), f"event {values[0]!r}")


class CustomDecoder:
    """Reads the packets of one connection with a parser of the application's own, and holds them to the rules."""

    __slots__ = ("_decoder", "_max_namespace_length")

    def __init__(self, decoder: ParserDecoder, max_namespace_length: int) -> None:
        self._decoder = decoder
        self._max_namespace_length = max_namespace_length

    def feed(self, message: Frame) -> Packet | None:
        """Take one Engine.IO message."""
        try:
            packet = self._decoder.decode(message[1:] if isinstance(message, str) else message)
        except ProtocolViolation:
            raise
        except Exception as error:
            raise MalformedPacket("a packet that the parser can read", message) from error
        if packet is not None:
            check_packet(packet, max_namespace_length=self._max_namespace_length)
        return packet


class CustomCodec:
    """The codec of a parser of the application's own.

    Args:
        parser: The parser.
    """

    def __init__(self, parser: Parser) -> None:
        self._parser = parser

    def encode(self, packet: Packet, what: str) -> tuple[Frame, ...]:
        """Have a packet written; raises `EncodingFailed` if it can't be."""
        try:
            messages = self._parser.encode(packet)
        except Exception as error:
            raise EncodingFailed(what, f"{type(error).__name__}: {error}") from error
        frames = tuple([f"4{message}" if isinstance(message, str) else bytes(message) for message in messages])
        if not frames:
            raise EncodingFailed(what, "the parser gave no message")
        return frames

    def make_decoder(
        self, *, max_attachments: int, max_attachment_bytes: int, max_namespace_length: int = 255
    ) -> CustomDecoder:
        """Make a connection's decoder; how many messages make a packet is the parser's own business."""
        return CustomDecoder(self._parser.make_decoder(), max_namespace_length)

    def encode_event(self, namespace: str, event: str, args: Sequence[Any]) -> CustomEvent:
        """Encode an event."""
        if not isinstance(event, str):
            raise EncodingFailed(f"event {event!r}", "an event's name is a string")
        if event in RESERVED_EVENTS:
            raise EncodingFailed(f"event {event!r}", "the name is reserved")
        # A copy, for it is encoded again later, with its offset.
        return CustomEvent(self, namespace, deepcopy([event, *args]))

    def restore_event(self, record: bytes, namespace: str) -> CustomEvent:
        """Bring an event back from storage."""
        return CustomEvent(self, namespace, read_values(record))

    def encode_ack(self, namespace: str, ack_id: int, args: Sequence[Any]) -> tuple[Frame, ...]:
        """Encode the acknowledgement of an event."""
        return self.encode(Packet(PacketType.ACK, namespace, list(args), ack_id), f"ack {ack_id}")

    def encode_connect(self, namespace: str, payload: dict[str, Any] | None) -> tuple[Frame, ...]:
        """Encode the request to join a namespace, or the answer to it."""
        return self.encode(Packet(PacketType.CONNECT, namespace, payload), "CONNECT")

    def encode_disconnect(self, namespace: str) -> tuple[Frame, ...]:
        """Encode that one side leaves a namespace."""
        return self.encode(Packet(PacketType.DISCONNECT, namespace), "DISCONNECT")

    def encode_connect_error(self, namespace: str, payload: Any) -> tuple[Frame, ...]:
        """Encode the refusal of a request to join a namespace."""
        return self.encode(Packet(PacketType.CONNECT_ERROR, namespace, payload), "CONNECT_ERROR")
