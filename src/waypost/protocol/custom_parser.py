"""The application's own parsers: the interface that a parser implements, and the codec around it."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Protocol

from waypost.errors import EncodingFailed, MalformedPacket, ProtocolViolation
from waypost.protocol import socketio
from waypost.protocol.decoded_size import custom_size
from waypost.protocol.engineio import Frame
from waypost.protocol.packet import RESERVED_EVENTS, Packet, PacketType, check_packet
from waypost.protocol.records import read_values

__all__ = ["CustomCodec", "Parser", "ParserDecoder"]


class ParserDecoder(Protocol):
    """Decodes the messages of one connection; made by `Parser.make_decoder`."""

    def decode(self, message: str | bytes) -> Packet | None:
        """Take one message that the other side's ``encode`` made.

        Args:
            message: Text or bytes. It comes from the network and may be anything.

        Returns:
            The packet that this message completes, or ``None`` while more messages of it are missing. Waypost checks
            the packet against Socket.IO's rules afterwards.

        Raises:
            Exception: Any exception means that the message is unreadable; Waypost closes this connection only.
        """
        ...


class Parser(Protocol):
    """Encodes and decodes packets; both sides of a connection need the same parser.

    Waypost calls a parser from one thread only. The store keeps events in Waypost's own form, so the server may use
    another parser after a restart. Arguments must therefore be values that JSON can carry, or ``bytes``.
    """

    def encode(self, packet: Packet) -> Sequence[str | bytes]:
        """Encode a packet.

        Args:
            packet: The packet. Do not change its data.

        Returns:
            At least one message, text or bytes. The other side gets them in this order, with no other message between
            them. CONNECT must be a single message.

        Raises:
            Exception: Any exception means that the packet can't be encoded; the caller of ``emit`` gets
                `EncodingFailed`.
        """
        ...

    def make_decoder(self) -> ParserDecoder:
        """Make the decoder of a new connection."""
        ...


class CustomEvent:
    """An event that the application's own parser encodes.

    Attributes:
        namespace: The event's namespace.
        size: The approximate size in bytes.
    """

    __slots__ = ("_codec", "_frames", "_offset", "_offset_frames", "_values", "namespace", "size")

    def __init__(self, codec: CustomCodec, namespace: str, values: list[Any]) -> None:
        self.namespace = namespace
        self._codec = codec
        self._values = values
        # Encoded now, so that the call that emits the event raises the error.
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
        """Return the event's frames."""
        return self._frames

    def frames_with_offset(self, offset: str) -> tuple[Frame, ...]:
        """Return the event with its position in the journal as the last argument."""
        if offset != self._offset:
            self._offset_frames = self._encode([*self._values, offset])
            self._offset = offset
        return self._offset_frames

    def frames_with_ack(self, ack_id: int) -> tuple[Frame, ...]:
        """Return the event with a request for an acknowledgement."""
        return self._encode(self._values, ack_id)

    def to_record(self) -> bytes:
        """Return the event as bytes for the store.

        Raises:
            EncodingFailed: JSON can't carry a value of the event.
        """
        name, *args = self._values
        return socketio.encode_event(self.namespace, name, args).to_record()

    def _encode(self, values: list[Any], ack_id: int | None = None) -> tuple[Frame, ...]:
        return self._codec.encode(Packet(PacketType.EVENT, self.namespace, values, ack_id), f"event {values[0]!r}")


_INTERRUPTIONS = (KeyboardInterrupt, GeneratorExit)
"""Exceptions that interrupt the program. Any other exception of a parser is a fault of its packet."""


class CustomDecoder:
    """Decodes the packets of one connection with the application's parser, and checks Socket.IO's rules."""

    __slots__ = ("_decoder", "_max_namespace_length")

    def __init__(self, decoder: ParserDecoder, max_namespace_length: int) -> None:
        self._decoder = decoder
        self._max_namespace_length = max_namespace_length

    @property
    def awaits_ack(self) -> bool:
        """False: only the parser knows what its messages will become."""
        return False

    def drop_attachments(self) -> None:
        """Do nothing: the parser keeps what it needs."""

    def feed(self, message: Frame) -> Packet | None:
        """Take one Engine.IO message; see `PacketDecoder.feed`."""
        try:
            packet = self._decoder.decode(message[1:] if isinstance(message, str) else message)
        except (ProtocolViolation, *_INTERRUPTIONS):
            raise
        except BaseException as error:
            raise MalformedPacket("a packet that the parser can read", message) from error
        if packet is not None:
            check_packet(packet, max_namespace_length=self._max_namespace_length)
        return packet


class CustomCodec:
    """The codec around the application's own parser.

    Args:
        parser: The parser.
    """

    def __init__(self, parser: Parser) -> None:
        self._parser = parser

    def encode(self, packet: Packet, what: str) -> tuple[Frame, ...]:
        """Encode a packet with the parser.

        Args:
            packet: The packet.
            what: The packet in words, for the error.

        Raises:
            EncodingFailed: The parser raised an exception, or returned no message.
        """
        try:
            messages = self._parser.encode(packet)
        except _INTERRUPTIONS:
            raise
        except BaseException as error:
            raise EncodingFailed(what, f"{type(error).__name__}: {error}") from error
        frames = tuple([f"4{message}" if isinstance(message, str) else bytes(message) for message in messages])
        if not frames:
            raise EncodingFailed(what, "the parser gave no message")
        return frames

    def make_decoder(
        self, *, max_attachments: int, max_attachment_bytes: int, max_namespace_length: int = 255
    ) -> CustomDecoder:
        """Make the decoder of a connection.

        The limits on attachments do not apply: the parser decides how many messages a packet has.
        """
        return CustomDecoder(self._parser.make_decoder(), max_namespace_length)

    def decoded_size(self, message: Frame, packet: Packet | None) -> int:
        """Estimate how many bytes a message takes in memory once it is decoded."""
        return len(message) if packet is None else custom_size(message, packet.data)

    def encode_event(self, namespace: str, event: str, args: Sequence[Any]) -> CustomEvent:
        """Encode an event."""
        if not isinstance(event, str):
            raise EncodingFailed(f"event {event!r}", "an event's name is a string")
        if event in RESERVED_EVENTS:
            raise EncodingFailed(f"event {event!r}", "the name is reserved")
        # Encoded again later, with its offset: the application may have changed its own object by then.
        return CustomEvent(self, namespace, deepcopy([event, *args]))

    def restore_event(self, record: bytes, namespace: str) -> CustomEvent:
        """Decode an event from its record, which any codec may have written."""
        return CustomEvent(self, namespace, read_values(record))

    def encode_ack(self, namespace: str, ack_id: int, args: Sequence[Any]) -> tuple[Frame, ...]:
        """Encode the acknowledgement of an event."""
        return self.encode(Packet(PacketType.ACK, namespace, list(args), ack_id), f"ack {ack_id}")

    def encode_connect(self, namespace: str, payload: dict[str, Any] | None) -> tuple[Frame, ...]:
        """Encode a CONNECT packet: the client's request to join a namespace, or the server's answer."""
        return self.encode(Packet(PacketType.CONNECT, namespace, payload), "CONNECT")

    def encode_disconnect(self, namespace: str) -> tuple[Frame, ...]:
        """Encode a DISCONNECT packet, with which one side leaves a namespace."""
        return self.encode(Packet(PacketType.DISCONNECT, namespace), "DISCONNECT")

    def encode_connect_error(self, namespace: str, payload: Any) -> tuple[Frame, ...]:
        """Encode a CONNECT_ERROR packet, with which a server refuses a client."""
        return self.encode(Packet(PacketType.CONNECT_ERROR, namespace, payload), "CONNECT_ERROR")
