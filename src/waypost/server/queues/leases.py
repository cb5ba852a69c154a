"""The leases of one consumer's deliveries, with one timer for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from waypost.server.queues.delivery import Delivery
from waypost.server.queues.options import QueueOptions

__all__ = ["Leases"]

_LEAST_PAUSE_S = 0.001


class Leases:
    """Watches the deliveries in flight.

    A renewal does not move the timer. When the timer fires, it computes the end of each lease anew.

    Args:
        loop: The event loop.
        flight: The deliveries in flight, by position; only read here.
        ended: Called with each delivery whose lease has ended.
    """

    __slots__ = ("_ended", "_flight", "_loop", "_options", "_timer")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        flight: Mapping[int, Delivery],
        ended: Callable[[Delivery], None],
    ) -> None:
        self._loop = loop
        self._flight = flight
        self._ended = ended
        self._options = QueueOptions()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, options: QueueOptions) -> None:
        """Watch a delivery that begins now. The options hold for all deliveries."""
        self._options = options
        if self._timer is None:
            self._timer = self._loop.call_later(min(options.lease_s, options.max_lease_s), self._look)

    def cancel(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        for delivery in list(self._flight.values()):
            # The end of one lease may have taken back other deliveries.
            is_in_flight = self._flight.get(delivery.message.position) is delivery
            if is_in_flight and delivery.lease_until(self._options) <= now:
                self._ended(delivery)
        if self._flight and self._timer is None:
            first = min(delivery.lease_until(self._options) for delivery in self._flight.values())
            self._timer = self._loop.call_later(max(first - now, _LEAST_PAUSE_S), self._look)
