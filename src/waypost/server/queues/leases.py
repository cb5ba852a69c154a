"""The leases of one consumer's deliveries, with one timer for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from waypost.server.queues.delivery import Delivery
from waypost.server.queues.options import QueueOptions
from waypost.storage.clock import LONGEST_SLEEP_S

__all__ = ["Leases"]

_LEAST_PAUSE_S = 0.001


class Leases:
    """Watches the deliveries in flight.

    A renewal does not move the timer. When the timer fires, it computes the end of each lease anew.

    Args:
        now: Returns the time on the store's clock.
        flight: The deliveries in flight, by position; only read here.
        ended: Called with each delivery whose lease has ended.
        overdue: Called at times with the oldest delivery that a client has not answered within one lease.
    """

    __slots__ = ("_ended", "_flight", "_loop", "_now", "_options", "_overdue", "_timer")

    def __init__(
        self,
        now: Callable[[], float],
        flight: Mapping[int, Delivery],
        ended: Callable[[Delivery], None],
        overdue: Callable[[Delivery], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._now = now
        self._flight = flight
        self._ended = ended
        self._overdue = overdue
        self._options = QueueOptions()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, options: QueueOptions) -> None:
        """Watch a delivery that begins now. The options hold for all deliveries."""
        self._options = options
        if self._timer is None:
            self._look_in(min(options.lease_s, options.max_lease_s))

    def cancel(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        now = self._now()
        deliveries = list(self._flight.values())
        overdue = next((one for one in deliveries if one.is_overdue(self._options, now)), None)
        if overdue is not None:
            self._overdue(overdue)
        for delivery in deliveries:
            # The end of one lease may have taken back other deliveries.
            is_in_flight = self._flight.get(delivery.message.position) is delivery
            if is_in_flight and delivery.lease_until(self._options) <= now:
                self._ended(delivery)
        if self._flight and self._timer is None:
            first = min(delivery.lease_until(self._options) for delivery in self._flight.values())
            self._look_in(first - now)

    def _look_in(self, seconds: float) -> None:
        pause_s = min(max(seconds, _LEAST_PAUSE_S), LONGEST_SLEEP_S)
        self._timer = self._loop.call_later(pause_s, self._look)
