"""The revisions of Engine.IO behind one face: how packets are written, and who pings.

Everything else of a session is the same in both; see `protocol.session`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from waypost.protocol import engineio, engineio3
from waypost.protocol.engineio import Frame
from waypost.protocol.heartbeat import ClientPings, Heartbeat, ServerPings

__all__ = ["Payload", "Revision", "Revision3", "Revision4"]

_TEXT = "text/plain; charset=UTF-8"
_BYTES = "application/octet-stream"
_NO_LIMIT = sys.maxsize


@dataclass(frozen=True, slots=True)
class Payload:
    """The body of the answer to a poll.

    Attributes:
        body: The packets.
        content_type: Its content type.
        compress: Whether compressing it is worth while; ``False`` if all its messages said that it is not.
    """

    body: bytes
    content_type: str
    compress: bool = True


class Revision(Protocol):
    """What the two revisions do differently."""

    @property
    def number(self) -> int:
        """The number that the client names in the query, as ``EIO``."""
        ...

    def heartbeat(self, interval_s: float, timeout_s: float, now: float) -> Heartbeat:
        """Begin the heartbeat of a session."""
        ...

    def encode_frame(self, frame: Frame) -> Frame:
        """Write a packet as a WebSocket frame."""
        ...

    def decode_frame(self, frame: Frame) -> Frame:
        """Read a packet from a WebSocket frame; raises `MalformedPacket`."""
        ...

    def encode_payload(self, frames: Sequence[Frame], *, text_only: bool = False) -> Payload:
        """Join packets into the answer to a poll; ``text_only`` where it can't carry bytes."""
        ...

    def decode_payload(self, body: bytes, *, max_packets: int) -> list[Frame]:
        """Split a POST's body into packets; raises `ProtocolViolation`."""
        ...

    @property
    def max_packets(self) -> int:
        """How many packets the client takes in one answer to a poll."""
        ...


@dataclass(frozen=True, slots=True)
class Revision4:
    """Engine.IO 4: the packets inside Waypost as they are.

    Attributes:
        max_packets: How many packets the client takes in one answer to a poll.
    """

    max_packets: int = _NO_LIMIT
    number: int = 4

    def heartbeat(self, interval_s: float, timeout_s: float, now: float) -> Heartbeat:
        """Begin the heartbeat of a session: the server pings."""
        return ServerPings(interval_s, timeout_s, now)

    def encode_frame(self, frame: Frame) -> Frame:
        """Write a packet as a WebSocket frame, which it is already."""
        return frame

    def decode_frame(self, frame: Frame) -> Frame:
        """Read a packet from a WebSocket frame, which it is already."""
        return frame

    def encode_payload(self, frames: Sequence[Frame], *, text_only: bool = False) -> Payload:
        """Join packets into the answer to a poll, which is always text."""
        return Payload(engineio.encode_payload(frames), _TEXT)

    def decode_payload(self, body: bytes, *, max_packets: int) -> list[Frame]:
        """Split a POST's body into packets; raises `ProtocolViolation`."""
        return engineio.decode_payload(body, max_packets=max_packets)


@dataclass(frozen=True, slots=True)
class Revision3:
    """Engine.IO 3, for Socket.IO 2 clients.

    Attributes:
        text_only: Whether the client takes no binary (``b64=1``, or JSONP).
    """

    text_only: bool = False
    max_packets: int = _NO_LIMIT
    number: int = 3

    def heartbeat(self, interval_s: float, timeout_s: float, now: float) -> Heartbeat:
        """Begin the heartbeat of a session: the client pings."""
        return ClientPings(interval_s, timeout_s, now)

    def encode_frame(self, frame: Frame) -> Frame:
        """Write a packet as a WebSocket frame."""
        return engineio3.encode_frame(frame, text_only=self.text_only)

    def decode_frame(self, frame: Frame) -> Frame:
        """Read a packet from a WebSocket frame; raises `MalformedPacket`."""
        return engineio3.decode_frame(frame)

    def encode_payload(self, frames: Sequence[Frame], *, text_only: bool = False) -> Payload:
        """Join packets into the answer to a poll: text, unless one is binary and the client takes that."""
        if not (text_only or self.text_only) and any(isinstance(frame, bytes) for frame in frames):
            return Payload(engineio3.encode_binary_payload(frames), _BYTES)
        return Payload(engineio3.encode_text_payload(frames), _TEXT)

    def decode_payload(self, body: bytes, *, max_packets: int) -> list[Frame]:
        """Split a POST's body into packets; raises `ProtocolViolation`."""
        return engineio3.decode_payload(body, max_packets=max_packets)
