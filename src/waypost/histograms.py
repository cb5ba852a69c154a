"""Histograms: how many values fell between fixed bounds. They are lists of numbers, which add up like counters."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final, TypeAlias

__all__ = [
    "COUNTS",
    "NS",
    "SECONDS",
    "WAITS",
    "Bounds",
    "Histogram",
    "new_counts",
    "new_seconds",
    "new_waits",
    "observe",
]

Histogram: TypeAlias = list[int]
"""The number of values up to each bound and above the bound before; of those above all bounds; the sum of all values.
"""

Bounds: TypeAlias = tuple[int, ...]
"""The bounds of a histogram, rising."""

NS: Final = 1_000_000_000
"""The nanoseconds of a second. Durations are counted in whole ones: integers add up faster, and exactly."""


def _bounds(*seconds: float) -> Bounds:
    return tuple([round(one * NS) for one in seconds])


SECONDS: Final = _bounds(
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60
)
"""The bounds of work that is short as a rule."""

WAITS: Final = _bounds(
    0.001, 0.005, 0.025, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600, 7 * 24 * 3600
)
"""The bounds of what may wait for days."""

COUNTS: Final = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)
"""The bounds of numbers of things."""


def new_seconds() -> Histogram:
    """Return an empty histogram with the bounds `SECONDS`, of nanoseconds."""
    return [0] * (len(SECONDS) + 2)


def new_waits() -> Histogram:
    """Return an empty histogram with the bounds `WAITS`, of nanoseconds."""
    return [0] * (len(WAITS) + 2)


def new_counts() -> Histogram:
    """Return an empty histogram with the bounds `COUNTS`."""
    return [0] * (len(COUNTS) + 2)


def observe(histogram: Histogram, bounds: Bounds, value: int) -> None:
    """Count a value."""
    histogram[bisect_left(bounds, value)] += 1
    histogram[-1] += value
