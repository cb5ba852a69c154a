"""The seam between Socket.IO's packets and what they are written in; everything above it is the same for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from waypost.errors import ConfigurationError
from waypost.protocol import socketio, socketio_msgpack
from waypost.protocol.custom_parser import CustomCodec, Parser
from waypost.protocol.engineio import Frame
from waypost.protocol.packet import Packet

__all__ = ["Codec", "EncodedEvent", "PacketDecoder", "codec_for"]


class EncodedEvent(Protocol):
    """An event in its encoded form: made once, sent to many. Immutable.

    Asked for the same frames again, it gives the same ones, without encoding anything anew.
    """

    @property
    def namespace(self) -> str:
        """The namespace it belongs to."""
        ...

    @property
    def size(self) -> int:
        """How large it is in bytes, roughly."""
        ...

    @property
    def event(self) -> str:
        """The event's name."""
        ...

    def frames(self) -> tuple[Frame, ...]:
        """Give the event as it is."""
        ...

    def frames_with_offset(self, offset: str) -> tuple[Frame, ...]:
        """Give the event with its position in the journal as the last argument."""
        ...

    def frames_with_ack(self, ack_id: int) -> tuple[Frame, ...]:
        """Give the event with a request to acknowledge it, from 0 to 999 999 999 999 999."""
        ...

    def to_record(self) -> bytes:
        """Give the event for storage, for every codec's `Codec.restore_event`; the namespace is not in it.

        Raises:
            EncodingFailed: It can't be stored.
        """
        ...


class PacketDecoder(Protocol):
    """Reads the packets of one connection, on either side of it."""

    def feed(self, message: Frame) -> Packet | None:
        """Take one Engine.IO message, with its leading "4" if it is text; once this has raised, feed no more.

        Returns:
            The packet that is complete with it, or ``None`` when more of it is to come.

        Raises:
            ProtocolViolation: It can't be read, may not come here, or is too large.
        """
        ...


class Codec(Protocol):
    """What packets are written in. The modules `socketio` (JSON) and `socketio_msgpack` are codecs."""

    def make_decoder(
        self, *, max_attachments: int, max_attachment_bytes: int, max_namespace_length: int = 255
    ) -> PacketDecoder:
        """Make a connection's decoder.

        Args:
            max_attachments: The most binary attachments of one packet.
            max_attachment_bytes: The most bytes that they may have together.
            max_namespace_length: The longest namespace that is accepted, in characters.
        """
        ...

    def encode_event(self, namespace: str, event: str, args: Sequence[Any]) -> EncodedEvent:
        """Encode an event, once for all who will get it.

        Raises:
            EncodingFailed: The name is reserved or no string, or an argument can't be encoded.
        """
        ...

    def restore_event(self, record: bytes, namespace: str) -> EncodedEvent:
        """Bring an event back from storage, whichever codec wrote it.

        Raises:
            MalformedPacket: These bytes are no record.
            EncodingFailed: Another codec wrote it, and this one can't carry what is in it.
        """
        ...

    def encode_ack(self, namespace: str, ack_id: int, args: Sequence[Any]) -> tuple[Frame, ...]:
        """Encode the acknowledgement of an event.

        Raises:
            EncodingFailed: An argument can't be encoded.
        """
        ...

    def encode_connect(self, namespace: str, payload: dict[str, Any] | None) -> tuple[Frame, ...]:
        """Encode the request to join a namespace, or the answer to it.

        Raises:
            EncodingFailed: The payload can't be encoded.
        """
        ...

    def encode_disconnect(self, namespace: str) -> tuple[Frame, ...]:
        """Encode that one side leaves a namespace."""
        ...

    def encode_connect_error(self, namespace: str, payload: Any) -> tuple[Frame, ...]:
        """Encode the refusal of a request to join a namespace.

        Raises:
            EncodingFailed: The payload can't be encoded.
        """
        ...


def codec_for(parser: str | Parser) -> Codec:
    """Return the codec that the option ``parser`` asks for.

    Args:
        parser: ``"json"``, ``"msgpack"``, or a parser of the application's own.

    Raises:
        ConfigurationError: It is none of these.
    """
    if parser == "json":
        return socketio
    if parser == "msgpack":
        return socketio_msgpack
    if isinstance(parser, str | type) or not (
        callable(getattr(parser, "encode", None)) and callable(getattr(parser, "make_decoder", None))
    ):
        raise ConfigurationError("parser", parser, '"json", "msgpack" or an object like waypost.Parser')
    return CustomCodec(parser)
