"""A packet that waits to be sent."""

from __future__ import annotations

from dataclasses import dataclass

from waypost.protocol.engineio import Frame

__all__ = ["Outgoing"]


@dataclass(slots=True, eq=False)
class Outgoing:
    """A packet that waits to be sent.

    Attributes:
        frames: Its frames.
        size: Roughly how many bytes they are.
        sid: The only session it may be sent in; ``None`` for any.
        is_bound: Whether it is meant for this connection, and for no later one.
        written: Whether it was handed to a connection.
    """

    frames: tuple[Frame, ...]
    size: int
    sid: str | None = None
    is_bound: bool = False
    written: bool = False
