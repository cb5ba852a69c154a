"""The state of a queue in numbers, from the store and from the consumers that are being served."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from waypost.server.queues.consumer import pause_end
from waypost.server.queues.load import Load
from waypost.storage.queue_records import QueueRow

__all__ = ["QueueInfo", "queue_info"]


class QueueInfo(NamedTuple):
    """A queue's state in numbers. All are zero for a queue that does not exist.

    Attributes:
        name: The queue's name.
        messages: The number of messages in the queue that are due, those included that all consumers have
            acknowledged and that are kept for ``keep_settled_s``.
        delayed: The number of messages that are not due yet; ``messages`` does not count them.
        bytes: The size of both together, in bytes.
        newest_offset: The offset of the newest message the queue ever had; 0 for none.
        oldest_at: The time at which the oldest message in the queue got its offset; ``None`` for an empty queue.
        consumers: The number of consumers.
        in_flight: The number of messages that are delivered and not acknowledged yet, over all consumers.
        dead_letters: The number of dead letters, over all consumers.
        expired: The number of messages that have ever outlived their time to live.
        dropped: The number of messages that the queue's limits have ever removed.
        paused_until: The time at which the pause of all consumers ends; ``None`` if the queue is not paused.
        delivered_per_s: Deliveries per second, over all consumers and the last 10 to 20 seconds.
        acknowledged_per_s: Acks per second, measured alike.
        redelivered_per_s: Failed deliveries per second, measured alike.
    """

    name: str
    messages: int
    delayed: int
    bytes: int
    newest_offset: int
    oldest_at: datetime | None
    consumers: int
    in_flight: int
    dead_letters: int
    expired: int
    dropped: int
    paused_until: datetime | None
    delivered_per_s: float
    acknowledged_per_s: float
    redelivered_per_s: float


def queue_info(row: QueueRow, loads: Sequence[Load]) -> QueueInfo:
    """Combine a queue's row in the store with the numbers of its consumers that are served now."""
    return QueueInfo(
        row.name,
        row.messages,
        row.delayed,
        row.bytes,
        row.top,
        None if row.oldest_at is None else datetime.fromtimestamp(row.oldest_at, UTC),
        row.consumers,
        sum(load.in_flight for load in loads) if loads else 0,
        row.dead,
        row.expired,
        row.dropped,
        pause_end(row.paused_until),
        sum(load.delivered_per_s for load in loads) if loads else 0.0,
        sum(load.acknowledged_per_s for load in loads) if loads else 0.0,
        sum(load.redelivered_per_s for load in loads) if loads else 0.0,
    )
