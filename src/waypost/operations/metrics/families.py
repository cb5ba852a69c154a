"""All metrics but those of queues."""

from __future__ import annotations

from collections.abc import Iterable
from platform import python_version

from waypost.histograms import COUNTS
from waypost.operations.metrics.family import (
    SHORT,
    Family,
    Ranges,
    Reading,
    Sample,
    by_namespace,
    histogram,
    number,
    survey,
    survey_number,
    table,
    tables,
)
from waypost.operations.metrics.queue_families import QUEUE_FAMILIES
from waypost.version import __version__

__all__ = ["FAMILIES"]


def _build(_reading: Reading) -> Iterable[Sample]:
    return (((__version__, python_version()), 1),)


def _read_age(reading: Reading) -> Iterable[Sample]:
    return () if reading.surveyed is None else (((), max(0.0, reading.now - reading.surveyed.read_at)),)


def _handler_errors(reading: Reading) -> Iterable[Sample]:
    # From 0 on: Prometheus sees no increase in a series that begins with 1.
    counters = reading.state.counters
    handled = [(outer, inner) for outer, table in counters.handler_seconds.items() for inner in table]
    failed = [(outer, inner) for outer, table in counters.handler_errors.items() for inner in table]
    names = dict.fromkeys(handled + failed)
    return [((outer, inner), counters.handler_errors.get(outer, {}).get(inner, 0)) for outer, inner in names]


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
        number(lambda state: state.readiness.is_ready),
    ),
    Family(
        "waypost_servers",
        "gauge",
        (),
        "Servers that the server that was asked knows, itself included.",
        number(lambda state: max(1, len(state.servers))),
    ),
    Family(
        "waypost_connections",
        "gauge",
        ("transport",),
        "Connections that are open.",
        table(lambda state: {"polling": 0, "websocket": 0, **state.transports}),
    ),
    Family(
        "waypost_connections_opened_total",
        "counter",
        ("transport",),
        "Connections that clients have opened, by their first transport.",
        table(lambda state: state.counters.connections_opened),
    ),
    Family(
        "waypost_connections_closed_total",
        "counter",
        ("reason",),
        "Connections that have ended.",
        table(lambda state: state.counters.connections_closed),
    ),
    Family(
        "waypost_requests_refused_total",
        "counter",
        ("code",),
        "Requests that were refused before they reached a connection, by Engine.IO's code.",
        table(lambda state: state.counters.requests_refused),
    ),
    Family(
        "waypost_sockets",
        "gauge",
        ("namespace",),
        "Sockets that are connected.",
        by_namespace(lambda state: state.sockets),
    ),
    Family(
        "waypost_bytes_received_total",
        "counter",
        (),
        "Bytes of clients: of WebSockets, and bodies of POSTs.",
        number(lambda state: state.counters.bytes_received),
    ),
    Family(
        "waypost_bytes_sent_total",
        "counter",
        (),
        "Bytes to clients: of WebSockets, and bodies of polls, before they are compressed or encrypted.",
        number(lambda state: state.counters.bytes_sent),
    ),
    Family(
        "waypost_packets_received_total",
        "counter",
        (),
        "Socket.IO packets of clients; a packet and its attachments are one.",
        number(lambda state: state.counters.packets_received),
    ),
    Family(
        "waypost_events_received_total",
        "counter",
        ("namespace", "event"),
        "Events of clients that passed the middleware; without a registered handler the event is `other`.",
        tables(lambda state: state.counters.events_received),
    ),
    Family(
        "waypost_handler_seconds",
        "histogram",
        ("namespace", "event"),
        "Seconds that handlers of events took.",
        tables(lambda state: state.counters.handler_seconds),
        SHORT,
    ),
    Family(
        "waypost_handler_errors_total",
        "counter",
        ("namespace", "event"),
        "Exceptions that handlers and middleware raised; refusals are none.",
        _handler_errors,
    ),
    Family(
        "waypost_emits_total",
        "counter",
        ("namespace", "kind"),
        "Emits of the application: `journal` with recovery, `live` without, `volatile`.",
        tables(lambda state: state.counters.emits),
    ),
    Family(
        "waypost_events_sent_total",
        "counter",
        (),
        "Events that emits passed to connected clients, one for each client; without replays and calls.",
        number(lambda state: state.counters.events_sent),
    ),
    Family(
        "waypost_recoveries_total",
        "counter",
        ("outcome",),
        "Clients that came back to a session: `recovered`, or the reason why not.",
        table(lambda state: {"recovered": 0, **state.counters.recoveries}),
    ),
    Family(
        "waypost_replayed_events_total",
        "counter",
        (),
        "Missed events that were sent to recovered clients.",
        number(lambda state: state.counters.replayed_events),
    ),
    Family(
        "waypost_replay_seconds",
        "histogram",
        (),
        "Seconds from a recovered client's CONNECT until it was live.",
        histogram(lambda state: state.counters.replay_seconds),
        SHORT,
    ),
    Family(
        "waypost_replay_events",
        "histogram",
        (),
        "Missed events of a recovered client.",
        histogram(lambda state: state.counters.replay_events),
        Ranges(COUNTS),
    ),
    Family(
        "waypost_slow_clients_total",
        "counter",
        (),
        "Clients that were disconnected because they read too slowly or not at all.",
        number(lambda state: state.counters.slow_clients),
    ),
    Family(
        "waypost_sessions_expired_total",
        "counter",
        (),
        "Sessions that ended because their clients did not come back in time.",
        number(lambda state: state.counters.expired_sessions),
    ),
    Family(
        "waypost_unexpected_acks_total",
        "counter",
        (),
        "Acknowledgements that nobody waits for: late, repeated or invented.",
        number(lambda state: state.counters.unexpected_acks),
    ),
    Family(
        "waypost_journal_events",
        "gauge",
        ("namespace",),
        "Events in the journals.",
        by_namespace(lambda state: {name: journal.events for name, journal in state.journals.items()}),
    ),
    Family(
        "waypost_journal_bytes",
        "gauge",
        ("namespace",),
        "The size of the events in the journals, in bytes.",
        by_namespace(lambda state: {name: journal.bytes for name, journal in state.journals.items()}),
    ),
    Family(
        "waypost_journal_reach_seconds",
        "gauge",
        ("namespace",),
        "Age of the oldest event in the journal: a client that was away for longer can't catch up.",
        survey(lambda surveyed: surveyed.reach_s),
    ),
    Family(
        "waypost_journal_trimmed_total",
        "counter",
        (),
        "Events that were removed from journals by age, number or size.",
        number(lambda state: state.counters.trimmed_events),
    ),
    Family(
        "waypost_store_commit_seconds",
        "histogram",
        (),
        "Seconds of a commit, until it is safe; none with a store in memory.",
        histogram(lambda state: state.counters.store.commit_seconds),
        SHORT,
    ),
    Family(
        "waypost_store_commit_rows",
        "histogram",
        (),
        "Writes that were committed together.",
        histogram(lambda state: state.counters.store.commit_rows),
        Ranges(COUNTS),
    ),
    Family(
        "waypost_store_errors_total",
        "counter",
        (),
        "Writes that the store did not take, or of which it did not say in time whether it did.",
        number(lambda state: state.counters.store.errors),
    ),
    Family(
        "waypost_store_bytes",
        "gauge",
        (),
        "Bytes that the store takes on disk; none with a store in memory.",
        survey_number(lambda surveyed: surveyed.store_bytes),
    ),
    Family(
        "waypost_store_free_bytes",
        "gauge",
        (),
        "Bytes that are free on the disk of the store's file.",
        survey_number(lambda surveyed: surveyed.free_bytes),
    ),
    Family(
        "waypost_store_read_age_seconds",
        "gauge",
        (),
        "Seconds since the numbers were read that only the store knows: sizes, reach, and what queues keep.",
        _read_age,
    ),
    Family(
        "waypost_loop_lag_seconds",
        "gauge",
        (),
        "By how much an event loop was late at most in the last 15 to 30 s, of the server that was latest.",
        number(lambda state: state.loop_lag_s),
    ),
    *QUEUE_FAMILIES,
    Family(
        "waypost_foreign_requests_total",
        "counter",
        (),
        "Requests that reached another worker than their session's.",
        number(lambda state: state.counters.foreign_requests),
    ),
    Family(
        "waypost_handed_over_total",
        "counter",
        (),
        "Connections that were handed over to another worker.",
        number(lambda state: state.counters.handed_over),
    ),
    Family(
        "waypost_forwarded_total",
        "counter",
        (),
        "Connections whose bytes are forwarded to another worker or machine.",
        number(lambda state: state.counters.forwarded),
    ),
    Family(
        "waypost_refused_handovers_total",
        "counter",
        (),
        "Connections for another worker that was gone or stuck.",
        number(lambda state: state.counters.refused_handovers),
    ),
)
"""All metrics, in the order of a scrape. `docs/metrics.md` has the same table; a test compares them."""
