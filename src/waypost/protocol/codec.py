"""The interface between Socket.IO's packets and their encodings; the layers above work with every codec."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import iscoroutinefunction
from typing import Any, Protocol

from waypost.errors import ConfigurationError
from waypost.protocol import socketio, socketio_msgpack
from waypost.protocol.custom_parser import CustomCodec, Parser
from waypost.protocol.engineio import Frame
from waypost.protocol.limited_json import LimitedJson
from waypost.protocol.msgpack_codec import MsgpackCodec
from waypost.protocol.packet import Packet
from waypost.protocol.rich_json import JsonDefault

__all__ = ["Codec", "EncodedEvent", "PacketDecoder", "check_json_default", "codec_for"]


class EncodedEvent(Protocol):
    """An encoded event: encoded once, sent to many. Immutable.

    A repeated request for the same frames returns the same tuple without encoding again.
    """

    @property
    def namespace(self) -> str:
        """The event's namespace."""
        ...

    @property
    def size(self) -> int:
        """The approximate size in bytes."""
        ...

    @property
    def event(self) -> str:
        """The event's name."""
        ...

    def frames(self) -> tuple[Frame, ...]:
        """Return the event's frames."""
        ...

    def frames_with_offset(self, offset: str) -> tuple[Frame, ...]:
        """Return the event with its position in the journal as the last argument."""
        ...

    def frames_with_ack(self, ack_id: int) -> tuple[Frame, ...]:
        """Return the event with a request for an acknowledgement; ``ack_id`` is from 0 to 999 999 999 999 999."""
        ...

    def to_record(self) -> bytes:
        """Return the event as bytes for the store, without its namespace.

        `Codec.restore_event` of every codec reads the record.

        Raises:
            EncodingFailed: The store's form can't carry a value of the event.
        """
        ...


class PacketDecoder(Protocol):
    """Decodes the packets of one connection, on the server or the client."""

    @property
    def awaits_ack(self) -> bool:
        """Whether an acknowledgement waits for more of it. False if the encoding does not tell before its end."""
        ...

    def drop_attachments(self) -> None:
        """Keep nothing of the attachments of the packet that waits for more of it."""
        ...

    def feed(self, message: Frame) -> Packet | None:
        """Take one Engine.IO message. After an error, feed no more.

        Args:
            message: Text with its leading "4", or bytes.

        Returns:
            The packet that this message completes, or ``None`` while more of it is missing.

        Raises:
            ProtocolViolation: The message is unreadable, too large, or not allowed at this point.
        """
        ...


class Codec(Protocol):
    """An encoding of packets. The modules `socketio` (JSON) and `socketio_msgpack` are codecs."""

    def make_decoder(
        self, *, max_attachments: int, max_attachment_bytes: int, max_namespace_length: int = 255
    ) -> PacketDecoder:
        """Make the decoder of a connection.

        Args:
            max_attachments: The most binary attachments of one packet.
            max_attachment_bytes: The most bytes that the attachments of one packet have together.
            max_namespace_length: The longest namespace, in characters.
        """
        ...

    def decoded_size(self, message: Frame, packet: Packet | None, /) -> int:
        """Estimate how many bytes a message takes in memory once it is decoded.

        Args:
            message: A message that the decoder has taken.
            packet: The packet that it completed, or ``None``.
        """
        ...

    def encode_event(self, namespace: str, event: str, args: Sequence[Any]) -> EncodedEvent:
        """Encode an event once for all its recipients.

        Raises:
            EncodingFailed: The name is not a string or is reserved, or an argument can't be encoded.
        """
        ...

    def restore_event(self, record: bytes, namespace: str) -> EncodedEvent:
        """Decode an event from its record, which any codec may have written.

        Raises:
            MalformedPacket: The bytes are not a record.
            EncodingFailed: Another codec wrote the record, and this codec can't carry a value in it.
        """
        ...

    def encode_ack(self, namespace: str, ack_id: int, args: Sequence[Any]) -> tuple[Frame, ...]:
        """Encode the acknowledgement of an event.

        Raises:
            EncodingFailed: An argument can't be encoded.
        """
        ...

    def encode_connect(self, namespace: str, payload: dict[str, Any] | None) -> tuple[Frame, ...]:
        """Encode a CONNECT packet: the client's request to join a namespace, or the server's answer.

        Raises:
            EncodingFailed: The payload can't be encoded.
        """
        ...

    def encode_disconnect(self, namespace: str) -> tuple[Frame, ...]:
        """Encode a DISCONNECT packet, with which one side leaves a namespace."""
        ...

    def encode_connect_error(self, namespace: str, payload: Any) -> tuple[Frame, ...]:
        """Encode a CONNECT_ERROR packet, with which a server refuses a client.

        Raises:
            EncodingFailed: The payload can't be encoded.
        """
        ...


def codec_for(
    parser: str | Parser, max_attachments: int | None = None, json_default: JsonDefault | None = None
) -> Codec:
    """Return the codec for a value of the option ``parser``.

    Args:
        parser: ``"json"``, ``"msgpack"``, or the application's own parser.
        max_attachments: The most binary attachments of one packet in JSON; ``None`` for no limit. Other encodings
            carry binary values in the packet itself.
        json_default: The application's function for values of other types. Its own parser does not use it.

    Raises:
        ConfigurationError: The value is none of these.
    """
    if parser == "json":
        if max_attachments is not None or json_default is not None:
            return LimitedJson(max_attachments, json_default)
        return socketio
    if parser == "msgpack":
        return socketio_msgpack if json_default is None else MsgpackCodec(json_default)
    if isinstance(parser, str | type) or not (
        callable(getattr(parser, "encode", None)) and callable(getattr(parser, "make_decoder", None))
    ):
        raise ConfigurationError("parser", parser, '"json", "msgpack" or an object like waypost.Parser')
    return CustomCodec(parser)


def check_json_default(json_default: JsonDefault | None, parser: str | Parser) -> None:
    """Check the option ``json_default`` together with the option ``parser``.

    Raises:
        ConfigurationError: It is a coroutine function, or the parser is the application's own.
    """
    if json_default is None:
        return
    if not isinstance(parser, str):
        raise ConfigurationError(
            "json_default", json_default, "None with an own parser, which encodes all types itself"
        )
    if iscoroutinefunction(json_default):
        raise ConfigurationError("json_default", json_default, "a plain function (def)")
