"""The client on whose behalf code runs that decides whether it may come in."""

from __future__ import annotations

from contextvars import ContextVar

__all__ = ["ARRIVAL", "Arrival", "arriving"]


class Arrival:
    """A client on its way into a namespace: its middleware or its connect handlers run.

    Args:
        sid: The id of its socket.

    Attributes:
        sid: The id of its socket.
        is_over: Whether the client is in, or was refused.
    """

    __slots__ = ("is_over", "sid")

    def __init__(self, sid: str) -> None:
        self.sid = sid
        self.is_over = False


ARRIVAL: ContextVar[Arrival | None] = ContextVar("ARRIVAL", default=None)
"""The client whose middleware or connect handlers run, also in tasks that they start; ``None`` elsewhere."""


def arriving() -> frozenset[str]:
    """Return the id of the socket whose middleware or connect handler calls this; nothing in other code."""
    arrival = ARRIVAL.get()
    return frozenset() if arrival is None or arrival.is_over else frozenset((arrival.sid,))
