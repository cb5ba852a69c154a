"""The codec for JSON with a limit on attachments: what a receiver's parser refuses is not encoded in the first place.

A parser that refuses a packet ends its connection. The client comes back, gets the same packet again, and so on for
ever; so too many attachments are an error for the sender.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from waypost.errors import EncodingFailed
from waypost.protocol import socketio
from waypost.protocol.engineio import Frame
from waypost.protocol.packet import Packet
from waypost.protocol.rich_json import JsonDefault

__all__ = ["LimitedJson"]


class LimitedJson:
    """A `Codec`: JSON, with at most so many binary attachments in one packet.

    Args:
        max_attachments: The most attachments, from 0; ``None`` for no limit.
        default: The application's function for values of other types; see the option ``json_default``.
    """

    __slots__ = ("_default", "_max_attachments")

    def __init__(self, max_attachments: int | None, default: JsonDefault | None = None) -> None:
        self._max_attachments = max_attachments
        self._default = default

    def make_decoder(
        self, *, max_attachments: int, max_attachment_bytes: int, max_namespace_length: int = 255
    ) -> socketio.Decoder:
        """Make the decoder of a connection."""
        return socketio.make_decoder(
            max_attachments=max_attachments,
            max_attachment_bytes=max_attachment_bytes,
            max_namespace_length=max_namespace_length,
        )

    def decoded_size(self, message: Frame, packet: Packet | None) -> int:
        """Estimate how many bytes a message takes in memory once it is decoded."""
        return socketio.decoded_size(message, packet)

    def encode_event(self, namespace: str, event: str, args: Sequence[Any]) -> socketio.JsonEvent:
        """Encode an event once for all its recipients; raises `EncodingFailed` also over the limit."""
        encoded = socketio.encode_event(namespace, event, args, self._default)
        if encoded.attachments:
            self._check(f"event {event!r}", encoded.attachments)
        return encoded

    def restore_event(self, record: bytes, namespace: str) -> socketio.JsonEvent:
        """Decode an event from its record; raises `EncodingFailed` also over the limit."""
        restored = socketio.restore_event(record, namespace)
        if restored.attachments:
            self._check(f"event {restored.event!r}", restored.attachments)
        return restored

    def encode_ack(self, namespace: str, ack_id: int, args: Sequence[Any]) -> tuple[Frame, ...]:
        """Encode the acknowledgement of an event; raises `EncodingFailed` also over the limit."""
        frames = socketio.encode_ack(namespace, ack_id, args, self._default)
        if len(frames) > 1:
            self._check(f"ack {ack_id}", len(frames) - 1)
        return frames

    def encode_connect(self, namespace: str, payload: dict[str, Any] | None) -> tuple[Frame, ...]:
        """Encode a CONNECT packet."""
        return socketio.encode_connect(namespace, payload, self._default)

    def encode_disconnect(self, namespace: str) -> tuple[Frame, ...]:
        """Encode a DISCONNECT packet."""
        return socketio.encode_disconnect(namespace)

    def encode_connect_error(self, namespace: str, payload: Any) -> tuple[Frame, ...]:
        """Encode a CONNECT_ERROR packet."""
        return socketio.encode_connect_error(namespace, payload, self._default)

    def _check(self, what: str, count: int) -> None:
        if self._max_attachments is not None and count > self._max_attachments:
            problem = (
                f"it has {count} binary attachments, and max_attachments allows {self._max_attachments}; official "
                "clients read no more than 10, so send fewer, or join them"
            )
            raise EncodingFailed(what, problem)
