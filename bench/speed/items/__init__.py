"""The pieces of work, one module each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from bench.speed.contenders import Contender, Serving
from bench.speed.items.acks import acks, single
from bench.speed.items.broadcast import broadcast
from bench.speed.items.common import Extent, Figures
from bench.speed.items.latency import latency

__all__ = ["ITEMS", "Item"]


@dataclass(frozen=True)
class Item:
    """A piece of work.

    Attributes:
        title: What it is called in the report.
        measure: Does it to a server that was just started; yields each case with its figures.
        suits: Tells whether a server can take part.
        most_rounds: How many rounds are enough.
        figure: The figure that servers are compared by.
        more_is_better: Whether that is better when it is larger.
    """

    title: str
    measure: Callable[[Serving, Extent], AsyncIterator[tuple[str, Figures]]]
    suits: Callable[[Contender], bool]
    most_rounds: int = 100
    figure: str = "per_s"
    more_is_better: bool = True


def _socketio(contender: Contender) -> bool:
    return contender.name != "ceiling"


def _any(_contender: Contender) -> bool:
    return True


ITEMS = {
    "acks": Item("Acknowledged events a second", acks, _any),
    "latency": Item("Latency at half load, ms", latency, _socketio, figure="p99_ms", more_is_better=False),
    "broadcast": Item("Deliveries of broadcasts a second", broadcast, _socketio),
    "single": Item("Events answered by an emit to their sender, a second", single, _socketio),
}
"""All, by the names they have on the command line."""
