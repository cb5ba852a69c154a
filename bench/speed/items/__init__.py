"""The pieces of work, one module each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from bench.speed.contenders import Contender, Serving
from bench.speed.items.acks import acks, single
from bench.speed.items.broadcast import broadcast
from bench.speed.items.common import Extent, Figures
from bench.speed.items.connect import connect
from bench.speed.items.growth import growth
from bench.speed.items.idle import idle, idle_environment, idle_polling
from bench.speed.items.latency import latency
from bench.speed.items.polling import polling
from bench.speed.items.recovery import recovery

__all__ = ["ITEMS", "Item"]


@dataclass(frozen=True)
class Item:
    """A piece of work.

    Attributes:
        title: What it is called in the report.
        measure: Does it to a server that was just started; yields each case with its figures.
        suits: Tells whether a server can take part.
        weight: How much of the time it may take, beside the others' weights, before it has no further round.
        most_rounds: How many rounds are enough.
        environment: What is set for servers.
        figure: The figure that servers are compared by.
        more_is_better: Whether that is better when it is larger.
    """

    title: str
    measure: Callable[[Serving, Extent], AsyncIterator[tuple[str, Figures]]]
    suits: Callable[[Contender], bool]
    weight: int
    most_rounds: int = 100
    environment: Callable[[Extent], dict[str, str]] = lambda _: {}
    figure: str = "per_s"
    more_is_better: bool = True


def _socketio(contender: Contender) -> bool:
    return contender.name != "ceiling"


def _any(_contender: Contender) -> bool:
    return True


ITEMS = {
    "acks": Item("Acknowledged events a second", acks, _any, 12),
    "latency": Item("Latency at half load, ms", latency, _socketio, 7, figure="p99_ms", more_is_better=False),
    "single": Item("Events answered by an emit to their sender, a second", single, _socketio, 8),
    "polling": Item("Acknowledged events by HTTP long-polling, a second", polling, _socketio, 5),
    "connect": Item("New connections a second", connect, _any, 7),
    "idle": Item(
        "Connections at rest: kB each, CPU time",
        idle,
        _socketio,
        weight=12,
        most_rounds=1,
        environment=idle_environment,
        figure="kb_each",
        more_is_better=False,
    ),
    "idle-polling": Item(
        "Polling sessions at rest: kB each", idle_polling, _socketio, 5, 1, figure="kb_each", more_is_better=False
    ),
    "recovery": Item(
        "Coming back: seconds until all have caught up",
        recovery,
        lambda contender: contender.recovers,
        weight=3,
        figure="caught_up_s",
        more_is_better=False,
    ),
    "growth": Item("Deliveries a second among many connections and rooms", growth, _socketio, 12, most_rounds=2),
    # Last, as it takes longest: where there is little time, everything else has had its turn.
    "broadcast": Item("Deliveries of broadcasts a second", broadcast, _socketio, 35),
}
"""All, by the names they have on the command line."""
