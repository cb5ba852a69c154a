"""The server's counters and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from waypost.server.watching.readiness import Readiness
from waypost.storage.engine_state import EngineState

__all__ = [
    "Counters",
    "JournalState",
    "ServerNumbers",
    "ServerState",
    "add_counters",
    "count_recovery",
    "raise_counters",
]


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
        forwarded: Connections whose bytes are forwarded: to another worker, because their TLS is in this one, or to
            another machine.
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
class ServerNumbers:
    """The numbers of one server of a cluster.

    Attributes:
        connections: The number of connections.
        sockets: The number of sockets, by namespace.
        counters: The totals so far.
    """

    connections: int
    sockets: Mapping[str, int]
    counters: Counters


@dataclass(frozen=True, slots=True)
class ServerState:
    """The numbers of a server, or of all servers of a cluster, at one moment; made by `waypost.Server.state`.

    In a cluster connections, sockets and counters are sums. The numbers of the server that was asked are current;
    those of other servers are about a second old, with thousands of namespaces up to 10 s. The totals of servers that
    have gone are included.

    Attributes:
        connections: The number of connections.
        sockets: The number of sockets, by namespace.
        counters: The totals so far.
        journals: The sizes of the journals, by namespace; empty with recovery off. Servers of a cluster share them.
        server: The name of the server that was asked; ``""`` without a cluster.
        servers: The numbers of each server of a cluster, by name; empty without a cluster.
        readiness: Whether the server that was asked can serve new clients as it should.
        engine: What the server that was asked sees of the database that the servers share; ``None`` without one.
    """

    connections: int
    sockets: Mapping[str, int]
    counters: Counters
    journals: Mapping[str, JournalState]
    server: str = ""
    servers: Mapping[str, ServerNumbers] = field(default_factory=dict)
    readiness: Readiness = field(default_factory=lambda: Readiness("stopped"))
    engine: EngineState | None = None


def count_recovery(counters: Counters, outcome: str) -> None:
    """Count a client that came back with a private id."""
    counters.recoveries[outcome] = counters.recoveries.get(outcome, 0) + 1


def add_counters(total: Counters, counters: Counters) -> None:
    """Add counters to a total."""
    for name in _NUMBERS:
        setattr(total, name, getattr(total, name) + getattr(counters, name))
    for outcome, count in counters.recoveries.items():
        total.recoveries[outcome] = total.recoveries.get(outcome, 0) + count


def raise_counters(counters: Counters, least: Counters) -> None:
    """Let no counter be less than another one."""
    for name in _NUMBERS:
        setattr(counters, name, max(getattr(counters, name), getattr(least, name)))
    for outcome, count in least.recoveries.items():
        counters.recoveries[outcome] = max(counters.recoveries.get(outcome, 0), count)


_NUMBERS = tuple(one.name for one in fields(Counters) if one.name != "recoveries")
