"""Counts and rates of a consumer's deliveries, cheap enough to read at any time."""

from __future__ import annotations

from collections.abc import Callable

from waypost.histograms import NS, WAITS, observe
from waypost.server.watching.queue_counters import QueueCounters

__all__ = ["ConsumerMeter", "Meter"]

_WINDOW_S = 10.0


class Meter:
    """A count since the meter was made, and a rate over the last 10 to 20 seconds.

    Args:
        clock: A clock in seconds that never goes back.

    Attributes:
        total: The count.
    """

    __slots__ = ("_before", "_clock", "_since", "_start", "total")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._start = clock()
        self._since = 0
        self._before: int | None = None
        self.total = 0

    def add(self, count: int = 1) -> None:
        """Count."""
        self.total += count
        if self._clock() - self._start >= _WINDOW_S:
            self._turn()
        self._since += count

    @property
    def per_second(self) -> float:
        """The rate per second. A meter younger than a second counts as a second old."""
        self._turn()
        elapsed_s = self._clock() - self._start
        if self._before is None:
            return self._since / max(elapsed_s, 1.0)
        return (self._before + self._since) / (_WINDOW_S + elapsed_s)

    def _turn(self) -> None:
        """Begin the next window after the end of one."""
        elapsed_s = self._clock() - self._start
        if elapsed_s < _WINDOW_S:
            return
        windows = int(elapsed_s / _WINDOW_S)
        self._before = self._since if windows == 1 else 0
        self._since = 0
        self._start += windows * _WINDOW_S


class ConsumerMeter:
    """The meters of a consumer while sockets or workers are attached.

    Args:
        clock: A clock in seconds that never goes back.
        totals: The totals with which the consumer's queue is counted; they rise with the meters.

    Attributes:
        delivered: Measures deliveries, repeated ones included.
        acknowledged: Measures acks.
        redelivered: Measures deliveries that ended without an ack and are repeated.
    """

    __slots__ = ("_totals", "acknowledged", "delivered", "redelivered")

    def __init__(self, clock: Callable[[], float], totals: QueueCounters) -> None:
        self.delivered = Meter(clock)
        self.acknowledged = Meter(clock)
        self.redelivered = Meter(clock)
        self._totals = totals

    def deliver(self, count: int) -> None:
        """Count deliveries."""
        self.delivered.add(count)
        self._totals.delivered += count

    def acknowledge(self, took_s: float | None) -> None:
        """Count an ack, and the seconds since its delivery; ``None`` if it came late."""
        self.acknowledged.add()
        self._totals.acknowledged += 1
        if took_s is not None:
            observe(self._totals.process_seconds, WAITS, int(took_s * NS))

    def redeliver(self) -> None:
        """Count a delivery that ended without an ack and is repeated."""
        self.redelivered.add()
        self._totals.redelivered += 1

    def first_delivery(self, waited_s: float) -> None:
        """Note for how many seconds a message was due when it was delivered for the first time."""
        observe(self._totals.wait_seconds, WAITS, int(waited_s * NS))
