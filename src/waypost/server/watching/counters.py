"""The server's counters and numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from operator import add
from typing import Any, TypeAlias

from waypost.histograms import Histogram, new_counts, new_seconds
from waypost.server.watching.queue_counters import QueueCounters, QueueLoad
from waypost.server.watching.readiness import Readiness
from waypost.storage.engine_state import EngineState
from waypost.storage.store_numbers import StoreCounts

__all__ = [
    "MOST_NAMES",
    "OTHER",
    "Counters",
    "JournalState",
    "ServerNumbers",
    "ServerState",
    "add_counters",
    "add_loads",
    "copy_counters",
    "copy_loads",
    "count",
    "histogram_of",
    "raise_counters",
    "table_of",
]

OTHER = "other"
"""Under this name all is counted that has no name of its own: no client can make names."""

MOST_NAMES = 500
"""The most names of one table; an application may register handlers without end."""


@dataclass(slots=True)
class Counters:
    """Totals since the server was created; they only rise. Histograms are as `waypost.histograms` describes them.

    Attributes:
        connections_opened: Connections that clients have opened, by the transport on which they did.
        connections_closed: Connections that have ended, by reason.
        requests_refused: Requests that were refused before they reached a connection, by Engine.IO's code.
        bytes_received: Bytes that came over connections, of the payloads of Engine.IO; see `Traffic`.
        bytes_sent: Bytes that went out in the same way.
        packets_received: Socket.IO packets of clients, attachments included in their packet.
        events_received: Events of clients, by namespace and event. A child of a parent namespace counts for its
            parent; ``"other"`` are events without a handler, and those with a handler of one socket alone.
        handler_seconds: Histograms (`SECONDS`) of the nanoseconds that handlers of events took, by namespace and
            event as above.
        handler_errors: Exceptions that handlers and middleware raised, by namespace and event.
        emits: Emits of the application, by namespace and kind: ``"journal"`` with recovery, ``"live"`` without,
            ``"volatile"``. An emit to a parent counts once for each child.
        events_sent: Events that emits passed to connected clients, one for each client. Missed events and events
            that ask for an ack are not in it.
        recoveries: Clients that came back with a private id, by outcome: ``"recovered"``, or the reason of the
            failure.
        replayed_events: Missed events that were sent to recovered clients.
        replay_seconds: A histogram (`SECONDS`) of the nanoseconds from the CONNECT of a recovered client until it was
            live.
        replay_events: A histogram (`COUNTS`) of the missed events of each recovered client.
        slow_clients: Clients that were disconnected because they read too slowly or not at all.
        expired_sessions: Sessions that ended because their clients did not come back in time.
        unexpected_acks: Acknowledgements with an unknown id: late, repeated or invented.
        trimmed_events: Events that were removed from journals by age, number or size.
        foreign_requests: Requests that reached this worker for a session of another one.
        handed_over: Connections that were handed over to another worker.
        forwarded: Connections whose bytes are forwarded: to another worker, because their TLS is in this one, or to
            another machine.
        refused_handovers: Connections for another worker that was gone or stuck.
        queues: The totals of queues, by the name under which they are counted.
        store: Those of the store: on PostgreSQL of this server's writes; else of all, and only one server has them.
    """

    connections_opened: dict[str, int] = field(default_factory=dict)
    connections_closed: dict[str, int] = field(default_factory=dict)
    requests_refused: dict[str, int] = field(default_factory=dict)
    bytes_received: int = 0
    bytes_sent: int = 0
    packets_received: int = 0
    events_received: dict[str, dict[str, int]] = field(default_factory=dict)
    handler_seconds: dict[str, dict[str, Histogram]] = field(default_factory=dict)
    handler_errors: dict[str, dict[str, int]] = field(default_factory=dict)
    emits: dict[str, dict[str, int]] = field(default_factory=dict)
    events_sent: int = 0
    recoveries: dict[str, int] = field(default_factory=dict)
    replayed_events: int = 0
    replay_seconds: Histogram = field(default_factory=new_seconds)
    replay_events: Histogram = field(default_factory=new_counts)
    slow_clients: int = 0
    expired_sessions: int = 0
    unexpected_acks: int = 0
    trimmed_events: int = 0
    foreign_requests: int = 0
    handed_over: int = 0
    forwarded: int = 0
    refused_handovers: int = 0
    queues: dict[str, QueueCounters] = field(default_factory=dict)
    store: StoreCounts = field(default_factory=StoreCounts)


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
        queues: The present numbers of queues, by the name under which they are counted.
        loop_lag_s: By how many seconds the event loop was late at most within the last half minute or so, to a
            hundredth.
    """

    connections: int
    sockets: Mapping[str, int]
    counters: Counters
    transports: Mapping[str, int] = field(default_factory=dict)
    queues: Mapping[str, QueueLoad] = field(default_factory=dict)
    loop_lag_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ServerState:
    """The numbers of a server, or of all servers of a cluster, at one moment; made by `waypost.Server.state`.

    In a cluster connections, sockets, queues and counters are sums. The numbers of the server that was asked are
    current; those of other servers are about a second old, with thousands of namespaces up to 10 s. The totals of
    servers that have gone are included.

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
        queues: The present numbers of queues, by the name under which they are counted.
        loop_lag_s: By how many seconds an event loop was late at most within the last half minute or so; of the
            server that was latest.
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
    queues: Mapping[str, QueueLoad] = field(default_factory=dict)
    loop_lag_s: float = 0.0


def count(table: dict[str, int], name: str) -> None:
    """Count one under a name; under `OTHER` if the table is full."""
    if name not in table and len(table) >= MOST_NAMES:
        name = OTHER
    table[name] = table.get(name, 0) + 1


def table_of(tables: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    """Return the table of a name, made if need be; that of `OTHER` if there are too many."""
    if name not in tables and len(tables) >= MOST_NAMES:
        name = OTHER
    return tables.setdefault(name, {})


def histogram_of(table: dict[str, Histogram], name: str) -> Histogram:
    """Return the histogram of a name, made if need be; that of `OTHER` if there are too many."""
    if name not in table and len(table) >= MOST_NAMES:
        name = OTHER
    return table.setdefault(name, new_seconds())


def copy_counters(counters: Counters) -> Counters:
    """Return a copy that later counts do not change."""
    copied = Counters()
    add_counters(copied, counters)
    return copied


def copy_loads(loads: Mapping[str, QueueLoad]) -> dict[str, QueueLoad]:
    """Return a copy that later counts do not change."""
    return {name: replace(load) for name, load in loads.items()}


def add_counters(total: Counters, counters: Counters) -> None:
    """Add counters to a total."""
    _merge(total, counters, add)


def add_loads(total: dict[str, QueueLoad], loads: Mapping[str, QueueLoad]) -> None:
    """Add the present numbers of queues to a total."""
    _merge_tables(total, loads, add)


def raise_counters(counters: Counters, least: Counters) -> None:
    """Let no counter be less than another one."""
    _merge(counters, least, max)


_Merging: TypeAlias = Callable[[int, int], int]


def _merge(total: Any, other: Any, merging: _Merging) -> None:
    """Merge the fields of two dataclasses of one type."""
    for one in fields(total):
        merged = _merged(getattr(total, one.name), getattr(other, one.name), merging)
        setattr(total, one.name, merged)


def _merge_tables(total: dict[str, Any], other: Mapping[str, Any], merging: _Merging) -> None:
    for name, value in other.items():
        if name not in total:
            total[name] = _empty(value)
        total[name] = _merged(total[name], value, merging)


def _merged(total: Any, other: Any, merging: _Merging) -> Any:
    """Return a number or histogram merged with another one; what has parts is merged in place."""
    if isinstance(total, int):
        return merging(total, other)
    if isinstance(total, list):
        # Another version of Waypost may have other bounds; then there is no sum.
        return [*map(merging, total, other)] if len(total) == len(other) else total
    if isinstance(total, dict):
        _merge_tables(total, other, merging)
    else:
        _merge(total, other, merging)
    return total


def _empty(value: Any) -> Any:
    """Return zero, of the same kind as a value."""
    return [0] * len(value) if isinstance(value, list) else type(value)()
