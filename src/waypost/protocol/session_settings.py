"""The settings that all Engine.IO sessions of a server share."""

from __future__ import annotations

from dataclasses import dataclass

from waypost.protocol.engineio import Frame

__all__ = ["SessionSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSettings:
    """The settings that all Engine.IO sessions of a server share.

    Attributes:
        ping_interval_s: Seconds between heartbeats.
        ping_timeout_s: Seconds that a client has to answer a heartbeat.
        upgrade_timeout_s: Seconds that a WebSocket probe may take.
        max_payload_bytes: The largest body or message that the server accepts.
        max_buffered_bytes: The most bytes that may wait for a slow client; more closes the session.
        max_stalled_s: The most seconds that frames may wait while the client takes none; longer closes the session.
        upgrades: The transports that the server offers to a polling client.
        initial_message: A message that each client gets right after the open packet, or ``None``.
    """

    ping_interval_s: float = 25
    ping_timeout_s: float = 20
    upgrade_timeout_s: float = 10
    max_payload_bytes: int = 1_000_000
    max_buffered_bytes: int = 1 << 20
    max_stalled_s: float = 10
    upgrades: tuple[str, ...] = ("websocket",)
    initial_message: Frame | None = None
