"""The numbers of the store that a scrape shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from waypost.storage.queue_records import QueueRow

__all__ = ["QueueDepth", "Surveyed"]


@dataclass(slots=True)
class QueueDepth:
    """The sums of the queues that are counted under one name.

    Attributes:
        messages: The number of messages that are due.
        delayed: The number of messages that are not due yet.
        dead_letters: The number of dead letters.
        oldest_s: The age of the oldest message that is due, in seconds; 0 without one.
    """

    messages: int = 0
    delayed: int = 0
    dead_letters: int = 0
    oldest_s: float = 0.0

    def add(self, row: QueueRow, now: float) -> None:
        """Add a queue, at a time of the store's."""
        self.messages += row.messages
        self.delayed += row.delayed
        self.dead_letters += row.dead
        if row.oldest_at is not None:
            self.oldest_s = max(self.oldest_s, now - row.oldest_at)


@dataclass(frozen=True, slots=True)
class Surveyed:
    """The numbers that were read.

    Attributes:
        read_at: The event loop's time at the end.
        queues: The queues, by the name under which they are counted; not those that keep nothing.
        reach_s: For how many seconds back the journals have events, by the name under which their namespaces are
            counted: the shortest of each.
        store_bytes: The bytes that the store takes on disk; ``None`` for one in memory.
        free_bytes: The bytes that are free on its disk; ``None`` if that is not known here.
    """

    read_at: float
    queues: Mapping[str, QueueDepth] = field(default_factory=dict)
    reach_s: Mapping[str, float] = field(default_factory=dict)
    store_bytes: int | None = None
    free_bytes: int | None = None
