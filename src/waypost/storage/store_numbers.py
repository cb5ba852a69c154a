"""The numbers of a store: how long its commits take, and how large it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import add, sub

from waypost.histograms import COUNTS, SECONDS, Histogram, new_counts, new_seconds, observe

__all__ = ["MOST_JOURNALS", "Commits", "StoreCounts", "StoreSize"]


@dataclass(slots=True)
class StoreCounts:
    """Totals of a store; they only rise. Histograms are as `waypost.histograms` describes them.

    Attributes:
        commit_seconds: A histogram (`SECONDS`) of the nanoseconds that commits took: from the begin of a transaction
            until it was safe, on PostgreSQL with the way there and back.
        commit_rows: A histogram (`COUNTS`) of the writes that were committed together.
        errors: Writes that the store did not take, or of which it did not say in time whether it did.
    """

    commit_seconds: Histogram = field(default_factory=new_seconds)
    commit_rows: Histogram = field(default_factory=new_counts)
    errors: int = 0

    def add(self, other: StoreCounts) -> None:
        """Add other counts."""
        self.commit_seconds = [*map(add, self.commit_seconds, other.commit_seconds)]
        self.commit_rows = [*map(add, self.commit_rows, other.commit_rows)]
        self.errors += other.errors


@dataclass(frozen=True, slots=True)
class StoreSize:
    """The size of a store.

    Attributes:
        bytes: The bytes that it takes on disk; ``None`` for one in memory.
        free_bytes: The bytes that are free on its disk; ``None`` if that is not known here.
        oldest_at: The store's time at which the oldest entry of each journal was appended, by the journals' names: of
            those that have entries, at most `MOST_JOURNALS`. It may be older than that by what a journal appends at a
            time, or by a hundredth of its retention.
    """

    bytes: int | None
    free_bytes: int | None
    oldest_at: Mapping[str, float]


MOST_JOURNALS = 1_000
"""The most journals that a `StoreSize` tells of."""


class Commits:
    """Counts the commits of a store.

    One thread notes commits, another one takes what was counted: the numbers only rise, so it takes differences.
    """

    __slots__ = ("_noted", "_taken")

    def __init__(self) -> None:
        self._noted = StoreCounts()
        self._taken = StoreCounts()

    def committed(self, took_ns: int, writes: int) -> None:
        """Count a commit. Always called in one thread."""
        observe(self._noted.commit_seconds, SECONDS, took_ns)
        observe(self._noted.commit_rows, COUNTS, writes)

    def failed(self, writes: int) -> None:
        """Count writes that failed. Always called in one thread."""
        self._noted.errors += writes

    def take(self) -> StoreCounts:
        """Return what was counted since the last call."""
        noted, taken = self._noted, self._taken
        now = StoreCounts([*noted.commit_seconds], [*noted.commit_rows], noted.errors)
        self._taken = now
        return StoreCounts(
            [*map(sub, now.commit_seconds, taken.commit_seconds)],
            [*map(sub, now.commit_rows, taken.commit_rows)],
            now.errors - taken.errors,
        )
