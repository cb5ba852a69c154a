"""The server's counters and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Counters", "JournalState", "ServerState", "count_recovery"]


@dataclass(slots=True)
class Counters:
    """Totals since the server was created; they only rise.

    Attributes:
        recoveries: Clients that came back with a private id, by outcome: ``"recovered"``, or the reason of the
            failure.
        replayed_events: Missed events that were sent to recovered clients.
        slow_clients: Clients that were disconnected because they read too slowly or not at all.
        expired_sessions: Sessions that ended because their clients did not come back in time.
        unexpected_acks: Acknowledgements with an unknown id: late, repeated or invented.
        trimmed_events: Events that were removed from journals by age, number or size.
        dead_letters: Messages of queues that became dead letters.
        expired_consumers: Consumers of queues that ended because no socket or worker was attached for too long.
        foreign_requests: Requests that reached this worker for a session of another one.
        handed_over: Connections that were handed over to another worker.
        forwarded: Connections whose bytes are forwarded to another worker, because their TLS is in this one.
        refused_handovers: Connections for another worker that was gone or stuck.
    """

    recoveries: dict[str, int] = field(default_factory=dict)
    replayed_events: int = 0
    slow_clients: int = 0
    expired_sessions: int = 0
    unexpected_acks: int = 0
    trimmed_events: int = 0
    dead_letters: int = 0
    expired_consumers: int = 0
    foreign_requests: int = 0
    handed_over: int = 0
    forwarded: int = 0
    refused_handovers: int = 0


@dataclass(frozen=True, slots=True)
class JournalState:
    """The size of a namespace's journal.

    Attributes:
        events: The number of events.
        bytes: The size of the events, in bytes.
        oldest_offset: The offset of the oldest event.
        newest_offset: The offset of the newest event so far.
    """

    events: int
    bytes: int
    oldest_offset: str
    newest_offset: str


@dataclass(frozen=True, slots=True)
class ServerState:
    """A server's numbers at one moment; made by `waypost.Server.state`.

    Attributes:
        connections: The number of connections.
        sockets: The number of sockets, by namespace.
        counters: The totals so far.
        journals: The sizes of the journals, by namespace; empty with recovery off.
    """

    connections: int
    sockets: Mapping[str, int]
    counters: Counters
    journals: Mapping[str, JournalState]


def count_recovery(counters: Counters, outcome: str) -> None:
    """Count a client that came back with a private id."""
    counters.recoveries[outcome] = counters.recoveries.get(outcome, 0) + 1
