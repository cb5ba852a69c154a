"""The metrics: their names, types, labels and meanings, and where their values come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from platform import python_version
from typing import Literal, TypeAlias

from waypost.server.watching.counters import ServerState
from waypost.version import __version__

__all__ = ["FAMILIES", "Family", "NameOf", "Sample"]

Sample: TypeAlias = tuple[tuple[str, ...], float]
"""The values of the labels, and the value."""

NameOf: TypeAlias = Callable[[str], str]
"""Returns the name under which a namespace is counted."""


@dataclass(frozen=True, slots=True)
class Family:
    """One metric.

    Attributes:
        name: The name, with ``_total`` for a counter.
        kind: The type.
        labels: The names of the labels.
        meaning: The meaning in one sentence; the help text.
        read: Returns the samples of a state.
    """

    name: str
    kind: Literal["counter", "gauge"]
    labels: tuple[str, ...]
    meaning: str
    read: Callable[[ServerState, NameOf], Iterable[Sample]]


def _number(value: Callable[[ServerState], float]) -> Callable[[ServerState, NameOf], Iterable[Sample]]:
    return lambda state, _: (((), value(state)),)


def _table(table: Callable[[ServerState], Mapping[str, int]]) -> Callable[[ServerState, NameOf], Iterable[Sample]]:
    return lambda state, _: [((name,), value) for name, value in table(state).items()]


def _tables(
    tables: Callable[[ServerState], Mapping[str, Mapping[str, int]]],
) -> Callable[[ServerState, NameOf], Iterable[Sample]]:
    return lambda state, _: [
        ((outer, inner), value) for outer, table in tables(state).items() for inner, value in table.items()
    ]


def _by_namespace(
    table: Callable[[ServerState], Mapping[str, int]],
) -> Callable[[ServerState, NameOf], Iterable[Sample]]:
    """Sum the children of each parent: clients choose their names."""

    def read(state: ServerState, name_of: NameOf) -> Iterable[Sample]:
        sums: dict[str, int] = {}
        for name, value in table(state).items():
            counted_as = name_of(name)
            sums[counted_as] = sums.get(counted_as, 0) + value
        return [((name,), value) for name, value in sums.items()]

    return read


def _build(_state: ServerState, _name_of: NameOf) -> Iterable[Sample]:
    return (((__version__, python_version()), 1),)


FAMILIES = (
    Family(
        "waypost_build_info",
        "gauge",
        ("version", "python"),
        "Always 1; the labels have the versions of Waypost and Python.",
        _build,
    ),
    Family(
        "waypost_ready",
        "gauge",
        (),
        "Whether the server that was asked can serve new clients as it should: 1 or 0.",
        _number(lambda state: state.readiness.is_ready),
    ),
    Family(
        "waypost_servers",
        "gauge",
        (),
        "Servers that the server that was asked knows, itself included.",
        _number(lambda state: max(1, len(state.servers))),
    ),
    Family(
        "waypost_connections",
        "gauge",
        ("transport",),
        "Connections that are open.",
        _table(lambda state: {"polling": 0, "websocket": 0, **state.transports}),
    ),
    Family(
        "waypost_connections_opened_total",
        "counter",
        ("transport",),
        "Connections that clients have opened, by their first transport.",
        _table(lambda state: state.counters.connections_opened),
    ),
    Family(
        "waypost_connections_closed_total",
        "counter",
        ("reason",),
        "Connections that have ended.",
        _table(lambda state: state.counters.connections_closed),
    ),
    Family(
        "waypost_requests_refused_total",
        "counter",
        ("code",),
        "Requests that were refused before they reached a connection, by Engine.IO's code.",
        _table(lambda state: state.counters.requests_refused),
    ),
    Family(
        "waypost_sockets",
        "gauge",
        ("namespace",),
        "Sockets that are connected.",
        _by_namespace(lambda state: state.sockets),
    ),
    Family(
        "waypost_packets_received_total",
        "counter",
        (),
        "Socket.IO packets of clients; a packet and its attachments are one.",
        _number(lambda state: state.counters.packets_received),
    ),
    Family(
        "waypost_events_received_total",
        "counter",
        ("namespace", "event"),
        "Events of clients that passed the middleware; without a registered handler the event is `other`.",
        _tables(lambda state: state.counters.events_received),
    ),
    Family(
        "waypost_handler_errors_total",
        "counter",
        ("namespace", "event"),
        "Exceptions that handlers and middleware raised; refusals are none.",
        _tables(lambda state: state.counters.handler_errors),
    ),
    Family(
        "waypost_emits_total",
        "counter",
        ("namespace", "kind"),
        "Emits of the application: `journal` with recovery, `live` without, `volatile`.",
        _tables(lambda state: state.counters.emits),
    ),
    Family(
        "waypost_events_sent_total",
        "counter",
        (),
        "Events that emits passed to connected clients, one for each client; without replays and calls.",
        _number(lambda state: state.counters.events_sent),
    ),
    Family(
        "waypost_recoveries_total",
        "counter",
        ("outcome",),
        "Clients that came back to a session: `recovered`, or the reason why not.",
        _table(lambda state: {"recovered": 0, **state.counters.recoveries}),
    ),
    Family(
        "waypost_replayed_events_total",
        "counter",
        (),
        "Missed events that were sent to recovered clients.",
        _number(lambda state: state.counters.replayed_events),
    ),
    Family(
        "waypost_slow_clients_total",
        "counter",
        (),
        "Clients that were disconnected because they read too slowly or not at all.",
        _number(lambda state: state.counters.slow_clients),
    ),
    Family(
        "waypost_sessions_expired_total",
        "counter",
        (),
        "Sessions that ended because their clients did not come back in time.",
        _number(lambda state: state.counters.expired_sessions),
    ),
    Family(
        "waypost_unexpected_acks_total",
        "counter",
        (),
        "Acknowledgements that nobody waits for: late, repeated or invented.",
        _number(lambda state: state.counters.unexpected_acks),
    ),
    Family(
        "waypost_journal_events",
        "gauge",
        ("namespace",),
        "Events in the journals.",
        _by_namespace(lambda state: {name: journal.events for name, journal in state.journals.items()}),
    ),
    Family(
        "waypost_journal_bytes",
        "gauge",
        ("namespace",),
        "The size of the events in the journals, in bytes.",
        _by_namespace(lambda state: {name: journal.bytes for name, journal in state.journals.items()}),
    ),
    Family(
        "waypost_journal_trimmed_total",
        "counter",
        (),
        "Events that were removed from journals by age, number or size.",
        _number(lambda state: state.counters.trimmed_events),
    ),
    Family(
        "waypost_dead_letters_total",
        "counter",
        (),
        "Messages of all queues that became dead letters.",
        _number(lambda state: state.counters.dead_letters),
    ),
    Family(
        "waypost_consumers_expired_total",
        "counter",
        (),
        "Consumers of queues that ended because nothing was attached for too long.",
        _number(lambda state: state.counters.expired_consumers),
    ),
    Family(
        "waypost_foreign_requests_total",
        "counter",
        (),
        "Requests that reached another worker than their session's.",
        _number(lambda state: state.counters.foreign_requests),
    ),
    Family(
        "waypost_handed_over_total",
        "counter",
        (),
        "Connections that were handed over to another worker.",
        _number(lambda state: state.counters.handed_over),
    ),
    Family(
        "waypost_forwarded_total",
        "counter",
        (),
        "Connections whose bytes are forwarded to another worker or machine.",
        _number(lambda state: state.counters.forwarded),
    ),
    Family(
        "waypost_refused_handovers_total",
        "counter",
        (),
        "Connections for another worker that was gone or stuck.",
        _number(lambda state: state.counters.refused_handovers),
    ),
)
"""All metrics, in the order of a scrape. `docs/metrics.md` has the same table; a test compares them."""
