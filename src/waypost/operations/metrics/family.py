"""A metric: its name, type, labels and meaning, and where its values come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from waypost.histograms import NS, SECONDS, WAITS, Bounds, Histogram
from waypost.operations.metrics.surveyed import Surveyed
from waypost.server.watching.counters import ServerState

__all__ = [
    "LONG",
    "SHORT",
    "Family",
    "NameOf",
    "Ranges",
    "Reading",
    "Sample",
    "by_namespace",
    "histogram",
    "number",
    "survey",
    "survey_number",
    "table",
    "tables",
]

NameOf: TypeAlias = Callable[[str], str]
"""Returns the name under which a namespace is counted."""

Sample: TypeAlias = tuple[tuple[str, ...], float | Histogram]
"""The values of the labels, and the value."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The values that a scrape reads.

    Attributes:
        state: The server's state.
        name_of: Returns the name under which a namespace is counted.
        surveyed: What was read of the store; ``None`` if there is nothing yet.
        now: The event loop's time.
    """

    state: ServerState
    name_of: NameOf
    surveyed: Surveyed | None
    now: float


Read: TypeAlias = Callable[[Reading], Iterable[Sample]]
"""Returns the samples of a reading."""


@dataclass(frozen=True, slots=True)
class Ranges:
    """The bounds of a histogram.

    Attributes:
        bounds: The bounds.
        unit: How many of the counted things are one of those that are shown: nanoseconds are counted, seconds shown.
    """

    bounds: Bounds
    unit: int = 1


SHORT = Ranges(SECONDS, NS)
LONG = Ranges(WAITS, NS)


@dataclass(frozen=True, slots=True)
class Family:
    """One metric.

    Attributes:
        name: The name, with ``_total`` for a counter.
        kind: The type.
        labels: The names of the labels.
        meaning: The meaning in one sentence; the help text.
        read: Returns the samples of a reading.
        ranges: The bounds of a histogram; ``None`` for another type.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    meaning: str
    read: Read
    ranges: Ranges | None = None


def survey(values: Callable[[Surveyed], Mapping[str, float]]) -> Read:
    """Read values of the store by name."""
    return lambda reading: (
        [] if reading.surveyed is None else [((name,), value) for name, value in values(reading.surveyed).items()]
    )


def survey_number(value: Callable[[Surveyed], float | None]) -> Read:
    """Read one number of the store, if it is known."""

    def read(reading: Reading) -> Iterable[Sample]:
        known = None if reading.surveyed is None else value(reading.surveyed)
        return () if known is None else (((), known),)

    return read


def number(value: Callable[[ServerState], float]) -> Read:
    """Read one number."""
    return lambda reading: (((), value(reading.state)),)


def histogram(value: Callable[[ServerState], Histogram]) -> Read:
    """Read one histogram."""
    return lambda reading: (((), value(reading.state)),)


def table(values: Callable[[ServerState], Mapping[str, float | Histogram]]) -> Read:
    """Read values by name."""
    return lambda reading: [((name,), value) for name, value in values(reading.state).items()]


def tables(values: Callable[[ServerState], Mapping[str, Mapping[str, float | Histogram]]]) -> Read:
    """Read values by two names."""
    return lambda reading: [
        ((outer, inner), value) for outer, inside in values(reading.state).items() for inner, value in inside.items()
    ]


def by_namespace(values: Callable[[ServerState], Mapping[str, int]]) -> Read:
    """Read sums of the children of each parent: clients choose their names."""

    def read(reading: Reading) -> Iterable[Sample]:
        sums: dict[str, int] = {}
        for name, value in values(reading.state).items():
            counted_as = reading.name_of(name)
            sums[counted_as] = sums.get(counted_as, 0) + value
        return [((name,), value) for name, value in sums.items()]

    return read
