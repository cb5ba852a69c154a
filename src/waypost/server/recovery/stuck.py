"""Clients that come back to the same event for ever: one that their parser refuses, or too large for their line.

A session ends if the same event was the first one sent on `MOST_TRIES` connections, and the client got beyond it on
none. A connection counts if the event was in the hands of the network for a second, or if the client closed it, as
official clients do with an event that they can't read.
"""

from __future__ import annotations

from dataclasses import dataclass

from waypost.server.emitting.outflow import Outflow
from waypost.server.recovery.live_session import LiveSession
from waypost.storage.journal_records import SessionRow

__all__ = ["MOST_TRIES", "Undeliverable", "another_try", "is_stuck"]

MOST_TRIES = 5
"""On how many connections an event may be the first one, without the client getting beyond it."""

_SHORTEST_S = 1.0


@dataclass(frozen=True, slots=True)
class Undeliverable:
    """A session whose client can't get an event.

    Attributes:
        stored: The session.
        event: The event's name; in words if no packet can carry it.
        offset: The event's offset.
        bytes: Its size, 0 if it can't be encoded.
        tries: On how many connections it was sent in vain; 0 if no packet can carry it.
    """

    stored: SessionRow
    event: str
    offset: str
    bytes: int
    tries: int

    def describe(self) -> str:
        """Return the reason in words."""
        if not self.tries:
            return f"no packet can carry {self.event} ({self.offset})"
        return (
            f"event {self.event!r} ({self.offset}, {self.bytes} bytes) was sent on {self.tries} connections, and the "
            "client got beyond it on none: its parser refuses it, or it is too large for its line"
        )


def is_stuck(stored: SessionRow, seen: int) -> bool:
    """Return whether a client has tried often enough to get beyond an event.

    Args:
        stored: Its session.
        seen: The position of the last event that the client says it has.
    """
    return stored.stuck_times >= MOST_TRIES and max(seen, stored.proven) < stored.stuck_at


def another_try(session: LiveSession, out: Outflow) -> tuple[int, int] | None:
    """Return an event beyond which the client did not get on a connection that has ended, and how often so far.

    Args:
        session: The session.
        out: The packets of the connection.

    Returns:
        The event's position, and the number of connections; ``None`` if this connection does not count.
    """
    first = out.first
    seconds = None if first is None else first.seconds_out()
    if first is None or first.position is None or seconds is None or session.arrived >= first.position:
        return None
    if seconds < _SHORTEST_S and not out.closed_by_client:
        return None
    return first.position, session.stuck_times + 1 if session.stuck_at == first.position else 1
