"""The present numbers of a consumer, which only its runner knows."""

from __future__ import annotations

from typing import NamedTuple

from waypost.server.queues.runner import Runner

__all__ = ["Load", "load_of"]


class Load(NamedTuple):
    """The present numbers of one consumer; see `ConsumerInfo`."""

    queue: str
    consumer: str
    in_flight: int = 0
    overdue: int = 0
    attached: int = 0
    delivered_per_s: float = 0.0
    acknowledged_per_s: float = 0.0
    redelivered_per_s: float = 0.0


def load_of(runner: Runner) -> Load:
    """Return the numbers of a runner."""
    meter = runner.meter
    return Load(
        runner.queue_name,
        runner.row.name,
        runner.in_flight,
        runner.overdue,
        runner.attached,
        meter.delivered.per_second,
        meter.acknowledged.per_second,
        meter.redelivered.per_second,
    )
