"""The bytes of all connections of a server."""

from __future__ import annotations

from waypost.protocol.engineio import Frame

__all__ = ["Traffic", "size_of"]


class Traffic:
    """Counts the bytes of all connections.

    Attributes:
        received: The bytes that came: of WebSockets after their handshakes, and bodies of POSTs.
        sent: The bytes that went out: of WebSockets after their handshakes, and bodies of polls before they are
            compressed. What is encrypted counts as it was before.
    """

    __slots__ = ("received", "sent")

    def __init__(self) -> None:
        self.received = 0
        self.sent = 0


def size_of(frame: Frame) -> int:
    """Return the bytes of a frame's payload."""
    return len(frame) if isinstance(frame, bytes) or frame.isascii() else len(frame.encode())
