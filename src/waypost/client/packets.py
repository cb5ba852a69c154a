"""A packet that waits to be sent."""

from __future__ import annotations

from dataclasses import dataclass

from waypost.protocol.engineio import Frame

__all__ = ["Outgoing"]


@dataclass(slots=True, eq=False)
class Outgoing:
    """A packet that waits to be sent.

    Attributes:
        frames: The packet's frames.
        size: The approximate size in bytes.
        sid: The only session in which the packet may be sent; ``None`` for any.
        is_bound: Whether the packet is meant for the current connection only.
        written: Whether a connection has taken the packet.
    """

    frames: tuple[Frame, ...]
    size: int
    sid: str | None = None
    is_bound: bool = False
    written: bool = False
