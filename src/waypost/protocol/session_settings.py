"""What all Engine.IO sessions of a server have in common."""

from __future__ import annotations

from dataclasses import dataclass

from waypost.protocol.engineio import Frame

__all__ = ["SessionSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSettings:
    """What all sessions of a server have in common.

    Attributes:
        ping_interval_s: Seconds between heartbeats.
        ping_timeout_s: Seconds a client has to answer one.
        upgrade_timeout_s: Seconds a WebSocket probe may take before it is given up.
        max_payload_bytes: The largest body or message taken from a client.
        max_buffered_bytes: How much may wait for a client that does not read; more ends the session.
        max_stalled_s: How long messages may wait without any being taken; longer ends the session.
        upgrades: The transports offered to a polling client.
        initial_message: A message that every client gets right after the open packet, or ``None``.
    """

    ping_interval_s: float = 25
    ping_timeout_s: float = 20
    upgrade_timeout_s: float = 10
    max_payload_bytes: int = 1_000_000
    max_buffered_bytes: int = 1 << 20
    max_stalled_s: float = 10
    upgrades: tuple[str, ...] = ("websocket",)
    initial_message: Frame | None = None
