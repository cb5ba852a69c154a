"""The differences between the revisions of Engine.IO: the encoding of packets, and the side that pings.

All other parts of a session are the same in both; see `protocol.session`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
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
    """The body of the response to a poll.

    Attributes:
        body: The encoded packets.
        content_type: The value of ``Content-Type``.
        compress: Whether compression is worthwhile; ``False`` if all messages were sent without it.
    """

    body: bytes
    content_type: str
    compress: bool = True


class Revision(Protocol):
    """The interface to one revision of Engine.IO."""

    @property
    def number(self) -> int:
        """The revision's number, which the client sends as ``EIO`` in the query."""
        ...

    def heartbeat(self, interval_s: float, timeout_s: float, now: float) -> Heartbeat:
        """Make the heartbeat of a new session."""
        ...

    def encode_frame(self, frame: Frame) -> Frame:
        """Encode a packet as a WebSocket frame."""
        ...

    def decode_frame(self, frame: Frame) -> Frame:
        """Decode a WebSocket frame to a packet.

        Raises:
            MalformedPacket: The frame is unreadable.
        """
        ...

    def encode_payload(self, frames: Sequence[Frame], *, text_only: bool = False) -> Payload:
        """Join packets into the response to a poll; with ``text_only``, binary packets are base64."""
        ...

    def read_payload(self, body: bytes, *, max_packets: int) -> Iterator[Frame]:
        """Split the body of a POST into packets, one at a time.

        Raises:
            ProtocolViolation: The body is unreadable, or has more than ``max_packets`` packets.
        """
        ...

    @property
    def max_packets(self) -> int:
        """The most packets that the client accepts in one response to a poll."""
        ...


@dataclass(frozen=True, slots=True)
class Revision4:
    """Engine.IO 4, whose packets are the ones that Waypost uses inside.

    Attributes:
        max_packets: The most packets that the client accepts in one response to a poll.
        number: The revision's number.
    """

    max_packets: int = _NO_LIMIT
    number: int = 4

    def heartbeat(self, interval_s: float, timeout_s: float, now: float) -> Heartbeat:
        """Make the heartbeat of a new session; the server pings."""
        return ServerPings(interval_s, timeout_s, now)

    def encode_frame(self, frame: Frame) -> Frame:
        """Return the packet unchanged: it already has the form of a WebSocket frame."""
        return frame

    def decode_frame(self, frame: Frame) -> Frame:
        """Return the frame unchanged: it already is a packet."""
        return frame

    def encode_payload(self, frames: Sequence[Frame], *, text_only: bool = False) -> Payload:
        """Join packets into the response to a poll, which is always text."""
        return Payload(engineio.encode_payload(frames), _TEXT)

    def read_payload(self, body: bytes, *, max_packets: int) -> Iterator[Frame]:
        """Split the body of a POST into packets, one at a time.

        Raises:
            ProtocolViolation: The body is unreadable, or has more than ``max_packets`` packets.
        """
        return engineio.read_payload(body, max_packets=max_packets)


@dataclass(frozen=True, slots=True)
class Revision3:
    """Engine.IO 3, for clients of Socket.IO 2.

    Attributes:
        text_only: Whether the client accepts no binary packets (``b64=1``, or JSONP).
        max_packets: The most packets that the client accepts in one response to a poll.
        number: The revision's number.
    """

    text_only: bool = False
    max_packets: int = _NO_LIMIT
    number: int = 3

    def heartbeat(self, interval_s: float, timeout_s: float, now: float) -> Heartbeat:
        """Make the heartbeat of a new session; the client pings."""
        return ClientPings(interval_s, timeout_s, now)

    def encode_frame(self, frame: Frame) -> Frame:
        """Encode a packet as a WebSocket frame."""
        return engineio3.encode_frame(frame, text_only=self.text_only)

    def decode_frame(self, frame: Frame) -> Frame:
        """Decode a WebSocket frame to a packet.

        Raises:
            MalformedPacket: The frame is unreadable.
        """
        return engineio3.decode_frame(frame)

    def encode_payload(self, frames: Sequence[Frame], *, text_only: bool = False) -> Payload:
        """Join packets into the response to a poll: binary if a packet is and the client accepts it, else text."""
        if not (text_only or self.text_only) and any(isinstance(frame, bytes) for frame in frames):
            return Payload(engineio3.encode_binary_payload(frames), _BYTES)
        return Payload(engineio3.encode_text_payload(frames), _TEXT)

    def read_payload(self, body: bytes, *, max_packets: int) -> Iterator[Frame]:
        """Split the body of a POST into packets, one at a time.

        Raises:
            ProtocolViolation: The body is unreadable, or has more than ``max_packets`` packets.
        """
        return engineio3.read_payload(body, max_packets=max_packets)
