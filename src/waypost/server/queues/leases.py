"""The leases of one consumer's deliveries: one timer for all, looked at when the first could end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from waypost.server.queues.delivery import Delivery
from waypost.server.queues.options import QueueOptions

__all__ = ["Leases"]

_LEAST_PAUSE_S = 0.001


class Leases:
    """Watches over what is in flight.

    A renewal moves no timer: when it fires, it looks how long each delivery has left by then.

    Args:
        loop: The event loop.
        flight: What is in flight, by position; not changed here.
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
        """Note that something has been handed out. A lease that begins now can't end before the timer fires."""
        self._options = options
        if self._timer is None:
            self._timer = self._loop.call_later(min(options.lease_s, options.max_lease_s), self._look)

    def cancel(self) -> None:
        """Watch no longer; nothing is in flight."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        for delivery in list(self._flight.values()):
            # One that ended may have taken others with it.
            is_in_flight = self._flight.get(delivery.message.position) is delivery
            if is_in_flight and delivery.lease_until(self._options) <= now:
                self._ended(delivery)
        if self._flight and self._timer is None:
            first = min(delivery.lease_until(self._options) for delivery in self._flight.values())
            self._timer = self._loop.call_later(max(first - now, _LEAST_PAUSE_S), self._look)
