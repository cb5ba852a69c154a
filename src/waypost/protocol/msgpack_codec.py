"""The codec for msgpack with the application's function for values of other types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from waypost.protocol import socketio_msgpack
from waypost.protocol.engineio import Frame
from waypost.protocol.packet import Packet
from waypost.protocol.rich_json import JsonDefault

__all__ = ["MsgpackCodec"]


class MsgpackCodec:
    """A `Codec`: msgpack, with a function that replaces values of other types.

    Args:
        default: The function; see the option ``json_default``.
    """

    __slots__ = ("_default",)

    def __init__(self, default: JsonDefault) -> None:
        self._default = default

    def make_decoder(
        self, *, max_attachments: int, max_attachment_bytes: int, max_namespace_length: int = 255
    ) -> socketio_msgpack.Decoder:
        """Make the decoder of a connection."""
        return socketio_msgpack.Decoder(max_namespace_length=max_namespace_length)

    def decoded_size(self, message: Frame, packet: Packet | None) -> int:
        """Estimate how many bytes a message takes in memory once it is decoded."""
        return socketio_msgpack.decoded_size(message, packet)

    def encode_event(self, namespace: str, event: str, args: Sequence[Any]) -> socketio_msgpack.MsgpackEvent:
        """Encode an event once for all its recipients."""
        return socketio_msgpack.encode_event(namespace, event, args, self._default)

    def restore_event(self, record: bytes, namespace: str) -> socketio_msgpack.MsgpackEvent:
        """Decode an event from its record."""
        return socketio_msgpack.restore_event(record, namespace)

    def encode_ack(self, namespace: str, ack_id: int, args: Sequence[Any]) -> tuple[Frame, ...]:
        """Encode the acknowledgement of an event."""
        return socketio_msgpack.encode_ack(namespace, ack_id, args, self._default)

    def encode_connect(self, namespace: str, payload: dict[str, Any] | None) -> tuple[Frame, ...]:
        """Encode a CONNECT packet."""
        return socketio_msgpack.encode_connect(namespace, payload, self._default)

    def encode_disconnect(self, namespace: str) -> tuple[Frame, ...]:
        """Encode a DISCONNECT packet."""
        return socketio_msgpack.encode_disconnect(namespace)

    def encode_connect_error(self, namespace: str, payload: Any) -> tuple[Frame, ...]:
        """Encode a CONNECT_ERROR packet."""
        return socketio_msgpack.encode_connect_error(namespace, payload, self._default)
