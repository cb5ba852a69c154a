"""The two ends of a connection: the receiver above it, and the WebSocket below it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from waypost.errors import ProtocolViolation
from waypost.protocol.engineio import Frame

__all__ = ["NOBODY", "LateReceiver", "Receiver", "WireOutlet"]


class Receiver(Protocol):
    """The layer above a connection."""

    def receive_message(self, message: Frame) -> None:
        """Take a message.

        Raises:
            ProtocolViolation: The message breaks the protocol; the connection must be closed.
        """
        ...

    def receive_control(self) -> None:
        """Count a packet that is not a message: a heartbeat or a noop.

        Raises:
            ProtocolViolation: The client sends too many packets.
        """
        ...

    def heartbeat_sent(self) -> None:
        """Note that a ping was queued behind all messages sent so far."""
        ...

    def heartbeat_answered(self) -> None:
        """Note that all messages sent before the last ping have arrived."""
        ...

    def probe_sent(self) -> None:
        """Note that a ping out of turn was queued behind all messages sent so far."""
        ...

    def probe_answered(self) -> None:
        """Note that all messages sent before the ping out of turn have arrived."""
        ...

    def heartbeat_came(self) -> None:
        """Note that the client sent a ping of its own, as clients of Engine.IO 3 do."""
        ...

    def disconnect_all(self) -> None:
        """Send the client a DISCONNECT in every namespace."""
        ...

    def connection_closed(self, reason: str) -> None:
        """Note that the connection is closed. Called once."""
        ...


class LateReceiver(Protocol):
    """Takes what a client sends that did not notice yet that its connection has ended.

    Attributes:
        when_heard: Called when nothing more is expected.
    """

    when_heard: Callable[[], object]

    @property
    def is_expected(self) -> bool:
        """Whether the client may still send something that counts."""
        ...

    def receive(self, frame: Frame) -> None:
        """Take a frame.

        Raises:
            ProtocolViolation: The frame is unreadable; it is the last one that is taken.
        """
        ...


class WireOutlet(Protocol):
    """A WebSocket that accepts frames at any time, without a task that waits for them.

    Attributes:
        is_ready: Whether it accepts frames now. When it becomes ready again, it calls `Connection.flush`.
    """

    is_ready: bool

    def write(self, frames: tuple[Frame, ...]) -> None:
        """Write frames. If the same tuple is written to many connections, it is encoded once."""
        ...

    def pause_reading(self) -> None:
        """Stop reading for a while."""
        ...

    def resume_reading(self) -> None:
        """Read again."""
        ...

    def close(self, problem: ProtocolViolation | None, late: LateReceiver | None) -> None:
        """Close after the written frames.

        Args:
            problem: The client's violation of the protocol, or ``None``.
            late: Takes what the client sends before it notices; ``None`` drops it.
        """
        ...


class _Nobody:
    """The receiver of a connection that has ended."""

    def receive_message(self, message: Frame) -> None:
        pass

    def receive_control(self) -> None:
        pass

    def heartbeat_sent(self) -> None:
        pass

    def heartbeat_answered(self) -> None:
        pass

    def probe_sent(self) -> None:
        pass

    def probe_answered(self) -> None:
        pass

    def heartbeat_came(self) -> None:
        pass

    def disconnect_all(self) -> None:
        pass

    def connection_closed(self, reason: str) -> None:
        pass


NOBODY: Receiver = _Nobody()
"""The receiver of all connections that have ended."""
