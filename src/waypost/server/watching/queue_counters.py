"""The numbers of queues that are counted under one name."""

from __future__ import annotations

from dataclasses import dataclass, field

from waypost.histograms import Histogram, new_waits

__all__ = ["CAUSES", "QueueCounters", "QueueLoad"]

CAUSES = ("rejected", "expired", "lost", "undeliverable", "damaged")
"""Why messages become dead letters."""


@dataclass(slots=True)
class QueueCounters:
    """Totals of the queues that are counted under one name; they only rise.

    Attributes:
        enqueued: Messages that servers have put into them. Duplicates are not in it, nor are messages of programs
            that write to the store themselves.
        delivered: Deliveries to sockets and functions, repeated ones included.
        acknowledged: Messages that consumers have acknowledged.
        redelivered: Deliveries that ended without an ack and are repeated.
        dead_lettered: Messages that became dead letters, by cause: ``"rejected"``, ``"expired"`` (not acknowledged
            within the lease), ``"lost"`` (connections broke), ``"undeliverable"`` (all of them broke), ``"damaged"``.
        expired_consumers: Consumers that ended because nothing was attached for too long.
        wait_seconds: A histogram (`WAITS`) of the nanoseconds from the moment that a message is due to its first
            delivery.
        process_seconds: A histogram (`WAITS`) of the nanoseconds from a delivery to its ack.
    """

    enqueued: int = 0
    delivered: int = 0
    acknowledged: int = 0
    redelivered: int = 0
    dead_lettered: dict[str, int] = field(default_factory=dict)
    expired_consumers: int = 0
    wait_seconds: Histogram = field(default_factory=new_waits)
    process_seconds: Histogram = field(default_factory=new_waits)


@dataclass(slots=True)
class QueueLoad:
    """The present numbers of the queues that are counted under one name.

    Attributes:
        attached: Sockets and functions that are attached to consumers; those of clients that may come back, too.
        in_flight: Messages that are delivered and not acknowledged yet.
    """

    attached: int = 0
    in_flight: int = 0
