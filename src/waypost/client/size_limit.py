"""The largest packet that the server takes, counted as the transport of the moment carries it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from waypost.errors import EncodingFailed
from waypost.protocol.engineio import Frame, polled_size

__all__ = ["SizeLimit"]

_WIDEST = 4
"""No transport makes a byte or a character larger than this many bytes."""


class Carrier(Protocol):
    """The part of a connection that this module needs."""

    @property
    def transport(self) -> str:
        """The name of the current transport."""
        ...


class SizeLimit:
    """Checks packets before they are sent: one that is too large would only end the connection.

    Args:
        transports: The transports that the client uses.

    Attributes:
        max_bytes: The largest message that the server accepts; ``None`` while it is unknown.
        carrier: The connection; ``None`` without one. The next one may begin with any of the transports.
    """

    __slots__ = ("_has_polling", "carrier", "max_bytes")

    def __init__(self, transports: Sequence[str]) -> None:
        self._has_polling = "polling" in transports
        self.max_bytes: int | None = None
        self.carrier: Carrier | None = None

    def check(self, what: str, frames: Sequence[Frame]) -> None:
        """Check a packet.

        Args:
            what: The packet in words, for the error.
            frames: The packet's frames. Each is a message of its own over WebSocket, and may have a request of its
                own over polling, with binary values in base64.

        Raises:
            EncodingFailed: A frame is larger than the server accepts.
        """
        most = self.max_bytes
        if most is None or max(map(len, frames)) * _WIDEST <= most:
            return
        is_polled = self._has_polling if self.carrier is None else self.carrier.transport == "polling"
        size = max(map(_alone if is_polled else _in_websocket, frames))
        if size > most:
            how = "polling" if is_polled else "WebSocket"
            problem = f"it takes {size} bytes over {how}, and the server's max_payload_bytes allows {most}"
            raise EncodingFailed(what, problem)


def _alone(frame: Frame) -> int:
    return polled_size(frame) - 1  # there is no separator before the only packet of a payload


def _in_websocket(frame: Frame) -> int:
    return len(frame) if isinstance(frame, bytes) else len(frame.encode("utf-8", "surrogatepass"))
