"""What carries an Engine.IO session: the seam between the session and HTTP or WebSocket."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from yarl import URL

from waypost.protocol.engineio import Frame

__all__ = ["Connector", "Transport", "TransportEnded"]


class TransportEnded(Exception):
    """A transport can't go on, or never began.

    Attributes:
        reason: Why, in Socket.IO's words.
        description: What happened, in words.
        code: The WebSocket's close code, or the HTTP status; ``None`` if there is none.
        reachable: Whether there is a server at all; another transport won't help if not.
        unsent: Whether nothing of what was to be sent has left.
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
    """One way to carry frames. One task receives and one sends, at the same time.

    Attributes:
        name: Its name in Engine.IO.
        max_packets: How many packets one `send` takes.
    """

    name: str
    max_packets: int

    async def receive(self) -> Sequence[Frame]:
        """Await the next frames; raises `TransportEnded`, or `ProtocolViolation` for what can't be read.

        It may be cancelled, but only to end the transport.
        """
        ...

    async def send(self, frames: Sequence[Frame]) -> None:
        """Send frames; returns when they are handed over; raises `TransportEnded`."""
        ...

    async def close(self, *, at_once: bool) -> None:
        """End, ``at_once`` or in an orderly way and within a moment; may also be called after the end."""
        ...


class Connector(Protocol):
    """Opens WebSockets; one of these may stand in for the network."""

    async def websocket(self, address: URL, headers: Mapping[str, str], max_message_bytes: int) -> Transport:
        """Open a WebSocket; raises `TransportEnded` if there is none.

        Args:
            address: What it is opened to, with the query.
            headers: What its request carries.
            max_message_bytes: The largest message to take; a larger one ends it.
        """
        ...
