"""Converts between the store's clock and times of day: for what is shown to people, and what they ask for.

While the two clocks agree, which is nearly always, nothing is converted or copied.
"""

from __future__ import annotations

from dataclasses import replace

from waypost.storage.clock import StoreClock
from waypost.storage.queue_records import (
    ConsumerRow,
    DeadLetterFilter,
    DeadLetterRow,
    FromTime,
    MessageRow,
    Place,
    QueueRow,
)

__all__ = [
    "consumer_on_wall",
    "filter_from_wall",
    "letter_on_wall",
    "message_on_wall",
    "place_from_wall",
    "queue_on_wall",
]


def queue_on_wall(clock: StoreClock, row: QueueRow) -> QueueRow:
    """Return a queue's state with times of day."""
    if not clock.ahead_s or row.oldest_at is None:
        return row
    return row._replace(oldest_at=clock.to_wall(row.oldest_at))


def consumer_on_wall(clock: StoreClock, row: ConsumerRow) -> ConsumerRow:
    """Return a consumer's state with times of day."""
    return replace(row, active_at=clock.to_wall(row.active_at)) if clock.ahead_s else row


def message_on_wall(clock: StoreClock, row: MessageRow) -> MessageRow:
    """Return a message with times of day."""
    if not clock.ahead_s:
        return row
    return row._replace(
        enqueued_at=clock.to_wall(row.enqueued_at),
        expires_at=None if row.expires_at is None else clock.to_wall(row.expires_at),
        retry_at=clock.to_wall(row.retry_at) if row.retry_at else row.retry_at,
    )


def letter_on_wall(clock: StoreClock, row: DeadLetterRow) -> DeadLetterRow:
    """Return a dead letter with times of day."""
    if not clock.ahead_s:
        return row
    return replace(
        row,
        enqueued_at=clock.to_wall(row.enqueued_at),
        died_at=clock.to_wall(row.died_at),
        history=tuple(replace(item, at=clock.to_wall(item.at)) for item in row.history),
    )


def place_from_wall(clock: StoreClock, place: Place) -> Place:
    """Return a place in a queue that was given by a time of day."""
    return FromTime(clock.from_wall(place.time)) if isinstance(place, FromTime) else place


def filter_from_wall(clock: StoreClock, matching: DeadLetterFilter) -> DeadLetterFilter:
    """Return a filter that was given with times of day."""
    after, before = matching.died_after, matching.died_before
    if not clock.ahead_s or (after is None and before is None):
        return matching
    return replace(
        matching,
        died_after=None if after is None else clock.from_wall(after),
        died_before=None if before is None else clock.from_wall(before),
    )
