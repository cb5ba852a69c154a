"""The server's counters and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from waypost.server.watching.readiness import Readiness
from waypost.storage.engine_state import EngineState

__all__ = [
    "OTHER",
    "Counters",
    "JournalState",
    "ServerNumbers",
    "ServerState",
    "add_counters",
    "copy_counters",
    "count",
    "raise_counters",
    "table_of",
]

OTHER = "other"
"""Under this name all is counted that has no name of its own: no client can make names."""

_MOST_NAMES = 500
"""The most names of one table; an application may register handlers without end."""


@dataclass(slots=True)
class Counters:
    """Totals since the server was created; they only rise.

    Attributes:
        connections_opened: Connections that clients have opened, by the transport on which they did.
        connections_closed: Connections that have ended, by reason.
        requests_refused: Requests that were refused before they reached a connection, by Engine.IO's code.
        packets_received: Socket.IO packets of clients, attachments included in their packet.
        events_received: Events of clients, by namespace and event. A child of a parent namespace counts for its
            parent; ``"other"`` are events without a handler, and those with a handler of one socket alone.
        handler_errors: Exceptions that handlers and middleware raised, by namespace and event.
        emits: Emits of the application, by namespace and kind: ``"journal"`` with recovery, ``"live"`` without,
            ``"volatile"``. An emit to a parent counts once for each child.
        events_sent: Events that emits passed to connected clients, one for each client. Missed events and events
            that ask for an ack are not in it.
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

    connections_opened: dict[str, int] = field(default_factory=dict)
    connections_closed: dict[str, int] = field(default_factory=dict)
    requests_refused: dict[str, int] = field(default_factory=dict)
    packets_received: int = 0
    events_received: dict[str, dict[str, int]] = field(default_factory=dict)
    handler_errors: dict[str, dict[str, int]] = field(default_factory=dict)
    emits: dict[str, dict[str, int]] = field(default_factory=dict)
    events_sent: int = 0
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
        transports: The number of connections, by transport.
    """

    connections: int
    sockets: Mapping[str, int]
    counters: Counters
    transports: Mapping[str, int] = field(default_factory=dict)


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
        transports: The number of connections, by transport.
    """

    connections: int
    sockets: Mapping[str, int]
    counters: Counters
    journals: Mapping[str, JournalState]
    server: str = ""
    servers: Mapping[str, ServerNumbers] = field(default_factory=dict)
    readiness: Readiness = field(default_factory=lambda: Readiness("stopped"))
    engine: EngineState | None = None
    transports: Mapping[str, int] = field(default_factory=dict)


def count(table: dict[str, int], name: str) -> None:
    """Count one under a name; under `OTHER` if the table is full."""
    if name not in table and len(table) >= _MOST_NAMES:
        name = OTHER
    table[name] = table.get(name, 0) + 1


def table_of(tables: dict[str, dict[str, int]], name: str) -> dict[str, int]:
    """Return the table of a name, made if need be; that of `OTHER` if there are too many."""
    if name not in tables and len(tables) >= _MOST_NAMES:
        name = OTHER
    return tables.setdefault(name, {})


def copy_counters(counters: Counters) -> Counters:
    """Return a copy that later counts do not change."""
    copied = Counters()
    add_counters(copied, counters)
    return copied


def add_counters(total: Counters, counters: Counters) -> None:
    """Add counters to a total."""
    for name in _NUMBERS:
        setattr(total, name, getattr(total, name) + getattr(counters, name))
    for name in _TABLES:
        _add(getattr(total, name), getattr(counters, name))


def raise_counters(counters: Counters, least: Counters) -> None:
    """Let no counter be less than another one."""
    for name in _NUMBERS:
        setattr(counters, name, max(getattr(counters, name), getattr(least, name)))
    for name in _TABLES:
        _raise(getattr(counters, name), getattr(least, name))


def _add(total: dict[str, Any], table: Mapping[str, Any]) -> None:
    for name, value in table.items():
        if isinstance(value, dict):
            _add(total.setdefault(name, {}), value)
        else:
            total[name] = total.get(name, 0) + value


def _raise(table: dict[str, Any], least: Mapping[str, Any]) -> None:
    for name, value in least.items():
        if isinstance(value, dict):
            _raise(table.setdefault(name, {}), value)
        else:
            table[name] = max(table.get(name, 0), value)


_TABLES = tuple(one.name for one in fields(Counters) if one.default_factory is dict)
_NUMBERS = tuple(one.name for one in fields(Counters) if one.name not in _TABLES)
