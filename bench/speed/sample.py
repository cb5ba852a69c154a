"""What was measured: one figure of one server at one piece of work, and what many of them say. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["Sample", "Summary", "percentile", "ratio", "summaries"]


@dataclass(frozen=True)
class Sample:
    """One measurement.

    Attributes:
        item: The kind of work.
        case: Which of its cases.
        server: Who did it.
        figures: What was found, by names that end in their units.
        round: Which round.
    """

    item: str
    case: str
    server: str
    figures: Mapping[str, float]
    round: int = 0


@dataclass(frozen=True)
class Summary:
    """One figure over all rounds."""

    values: Sequence[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The middle."""
        return statistics.median(self.values)

    @property
    def spread(self) -> float | None:
        """How far the smallest and the largest are apart, as a share of the median; ``None`` of a single round."""
        if len(self.values) < 2:
            return None
        return (max(self.values) - min(self.values)) / self.median if self.median else 0.0

    @property
    def spread_shown(self) -> str:
        """The spread for people: a single round has none, which is not the same as 0%."""
        return "1 round" if self.spread is None else f"{self.spread:.0%}"


def percentile(ordered: Sequence[float], share: float) -> float:
    """Give the value that a share of all don't exceed; they have to be sorted."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def summaries(samples: Iterable[Sample]) -> dict[tuple[str, str, str, str], Summary]:
    """Bring rounds together: by item, case, server, and the figure's name, in the order in which they first came."""
    found: dict[tuple[str, str, str, str], list[float]] = {}
    for sample in samples:
        for name, value in sample.figures.items():
            found.setdefault((sample.item, sample.case, sample.server, name), []).append(value)
    return {key: Summary(values) for key, values in found.items()}


def ratio(mine: Summary | None, theirs: Summary | None, *, more_is_better: bool = True) -> float | None:
    """Say how many times better one is than another by the medians; ``None`` if one is missing."""
    if mine is None or theirs is None or not mine.median or not theirs.median:
        return None
    return mine.median / theirs.median if more_is_better else theirs.median / mine.median
