"""The interface between an Engine.IO session and its transport, HTTP or a WebSocket."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from yarl import URL

from waypost.protocol.engineio import Frame

__all__ = ["Connector", "Transport", "TransportEnded"]


class TransportEnded(Exception):
    """A transport was lost, or could not be opened.

    Attributes:
        reason: The reason, in Socket.IO's words.
        description: The cause, in words.
        code: The WebSocket's close code or the HTTP status; ``None`` if there is none.
        reachable: Whether a server could be reached; if not, another transport does not help.
        unsent: Whether no frame of the failed `Transport.send` has left.
    """

    def __init__(
        self,
        reason: str,
        description: str,
        code: int | None = None,
        *,
        reachable: bool = True,
        unsent: bool = False,
    ) -> None:
        super().__init__(reason, description, code)
        self.reason = reason
        self.description = description
        self.code = code
        self.reachable = reachable
        self.unsent = unsent

    def __str__(self) -> str:
        return self.description


class Transport(Protocol):
    """Carries frames. One task receives and another sends, at the same time.

    Attributes:
        name: The transport's name in Engine.IO.
        max_packets: The most packets of one `send`.
    """

    name: str
    max_packets: int

    async def receive(self) -> Sequence[Frame]:
        """Await the next frames. May be cancelled, but only to close the transport.

        Returns:
            The frames, at least one.

        Raises:
            TransportEnded: The transport is lost.
            ProtocolViolation: The input is unreadable.
        """
        ...

    async def send(self, frames: Sequence[Frame]) -> None:
        """Send frames. Returns when the network has taken them.

        Raises:
            TransportEnded: The transport is lost.
        """
        ...

    async def close(self, *, at_once: bool) -> None:
        """Close the transport: at once, or gracefully within a second. A second call does nothing."""
        ...


class Connector(Protocol):
    """Opens WebSockets; an implementation can replace the network."""

    async def websocket(self, address: URL, headers: Mapping[str, str], max_message_bytes: int) -> Transport:
        """Open a WebSocket.

        Args:
            address: The URL of the request.
            headers: The request's headers.
            max_message_bytes: The largest message that the client accepts; a larger one closes the WebSocket.

        Raises:
            TransportEnded: The WebSocket could not be opened.
        """
        ...
