"""The metrics of queues."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from waypost.histograms import Histogram
from waypost.operations.metrics.family import LONG, Family, Reading, Sample, table
from waypost.operations.metrics.surveyed import QueueDepth
from waypost.server.watching.queue_counters import CAUSES, QueueCounters

__all__ = ["QUEUE_FAMILIES"]


def _totals(value: Callable[[QueueCounters], int | Histogram]) -> Callable[[Reading], Iterable[Sample]]:
    return table(lambda state: {name: value(totals) for name, totals in state.counters.queues.items()})


def _dead_lettered(reading: Reading) -> Iterable[Sample]:
    # Of each cause from the beginning on: Prometheus sees no increase in a series that begins with 1.
    queues = reading.state.counters.queues
    return [
        ((name, cause), totals.dead_lettered.get(cause, 0)) for name, totals in queues.items() for cause in CAUSES
    ]


def _depths(value: Callable[[QueueDepth], float]) -> Callable[[Reading], Iterable[Sample]]:
    def read(reading: Reading) -> Iterable[Sample]:
        if reading.surveyed is None:
            return []
        # A name whose queues keep nothing has depth 0, instead of no value.
        empty, depths = QueueDepth(), reading.surveyed.queues
        names = dict.fromkeys([*depths, *reading.state.counters.queues])
        return [((name,), value(depths.get(name, empty))) for name in names]

    return read


QUEUE_FAMILIES = (
    Family(
        "waypost_queue_messages",
        "gauge",
        ("queue",),
        "Messages that are due and not acknowledged by all consumers, or kept for `keep_settled_s`.",
        _depths(lambda depth: depth.messages),
    ),
    Family(
        "waypost_queue_delayed",
        "gauge",
        ("queue",),
        "Messages that are not due yet.",
        _depths(lambda depth: depth.delayed),
    ),
    Family(
        "waypost_queue_oldest_age_seconds",
        "gauge",
        ("queue",),
        "Age of the oldest message that is due, of all queues with the label.",
        _depths(lambda depth: depth.oldest_s),
    ),
    Family(
        "waypost_queue_dead_letters",
        "gauge",
        ("queue",),
        "Dead letters that are kept.",
        _depths(lambda depth: depth.dead_letters),
    ),
    Family(
        "waypost_queue_in_flight",
        "gauge",
        ("queue",),
        "Messages that are delivered and not acknowledged yet.",
        table(lambda state: {name: load.in_flight for name, load in state.queues.items()}),
    ),
    Family(
        "waypost_queue_attached",
        "gauge",
        ("queue",),
        "Sockets and functions that are attached to consumers; those of clients that may come back, too.",
        table(lambda state: {name: load.attached for name, load in state.queues.items()}),
    ),
    Family(
        "waypost_queue_enqueued_total",
        "counter",
        ("queue",),
        "Messages that servers put into queues; without duplicates, and without those of other programs.",
        _totals(lambda totals: totals.enqueued),
    ),
    Family(
        "waypost_queue_delivered_total",
        "counter",
        ("queue",),
        "Deliveries of messages, repeated ones included.",
        _totals(lambda totals: totals.delivered),
    ),
    Family(
        "waypost_queue_acknowledged_total",
        "counter",
        ("queue",),
        "Messages that consumers acknowledged.",
        _totals(lambda totals: totals.acknowledged),
    ),
    Family(
        "waypost_queue_redelivered_total",
        "counter",
        ("queue",),
        "Deliveries that ended without an ack and are repeated.",
        _totals(lambda totals: totals.redelivered),
    ),
    Family(
        "waypost_queue_dead_lettered_total",
        "counter",
        ("queue", "cause"),
        "Messages that became dead letters: `rejected`, `expired`, `lost`, `undeliverable`, `damaged`.",
        _dead_lettered,
    ),
    Family(
        "waypost_queue_consumers_expired_total",
        "counter",
        ("queue",),
        "Consumers that ended because nothing was attached for too long.",
        _totals(lambda totals: totals.expired_consumers),
    ),
    Family(
        "waypost_queue_wait_seconds",
        "histogram",
        ("queue",),
        "Seconds from the moment that a message was due to its first delivery.",
        _totals(lambda totals: totals.wait_seconds),
        LONG,
    ),
    Family(
        "waypost_queue_process_seconds",
        "histogram",
        ("queue",),
        "Seconds from a delivery to its ack.",
        _totals(lambda totals: totals.process_seconds),
        LONG,
    ),
)
"""The metrics of queues, in the order of a scrape."""
