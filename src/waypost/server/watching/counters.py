"""What a server counts, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Counters", "JournalState", "ServerState", "count_recovery"]


@dataclass(slots=True)
class Counters:
    """What has happened since the server was made; only ever goes up.

    Attributes:
        recoveries: How many clients came back with a pid, by outcome: ``"recovered"``, or the reason why not.
        replayed_events: How many missed events were written to clients that recovered.
        slow_clients: How many clients were cut off because they took nothing, or too slowly.
        expired_sessions: How many sessions ended because their clients did not come back in time.
        unexpected_acks: How many acks of clients came that nobody waited for: late, repeated or made up.
        trimmed_events: How many events fell out of journals by age, number or size.
        dead_letters: How many messages of queues were given up.
        expired_consumers: How many consumers of queues ended because nothing was attached to them for too long.
    """

    recoveries: dict[str, int] = field(default_factory=dict)
    replayed_events: int = 0
    slow_clients: int = 0
    expired_sessions: int = 0
    unexpected_acks: int = 0
    trimmed_events: int = 0
    dead_letters: int = 0
    expired_consumers: int = 0


@dataclass(frozen=True, slots=True)
class JournalState:
    """How much a namespace's journal keeps.

    Attributes:
        events: How many events.
        bytes: How many bytes of them.
        oldest_offset: The offset of the oldest one.
        newest_offset: The offset of the newest one ever.
    """

    events: int
    bytes: int
    oldest_offset: str
    newest_offset: str


@dataclass(frozen=True, slots=True)
class ServerState:
    """A server's numbers at one moment; made by `waypost.Server.state`.

    Attributes:
        connections: How many connections there are.
        sockets: How many sockets, by namespace.
        counters: What has happened so far.
        journals: What the journals keep, by namespace; empty with recovery off.
    """

    connections: int
    sockets: Mapping[str, int]
    counters: Counters
    journals: Mapping[str, JournalState]


def count_recovery(counters: Counters, outcome: str) -> None:
    """Count one client that came back with a pid."""
    counters.recoveries[outcome] = counters.recoveries.get(outcome, 0) + 1
