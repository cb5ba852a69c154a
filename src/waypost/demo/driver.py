"""The driver: a real Waypost client that records its parcels and how long each of them waited."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import waypost
from waypost.demo.ledger import Announcement, Ledger

__all__ = ["Driver", "Waited"]


@dataclass(frozen=True, slots=True)
class Waited:
    """A parcel that the queue delivered.

    Attributes:
        parcel_id: The parcel's id.
        waited_s: Seconds from its sending to its arrival.
        survived_kill: Whether the service was killed after it accepted the parcel.
    """

    parcel_id: str
    waited_s: float
    survived_kill: bool


class Driver:
    """A driver with one connection; it gets parcels from its queue and from the board.

    Args:
        url: The service's address.
        name: The driver's name; the queue is named after it.
        ledger: The ledger that records the arrivals.
        killed: The processes of the service that were killed so far.
        on_change: Called after each change of the driver's state.

    Attributes:
        waited: The parcels from the queue, in the order of arrival.
        connections: The number of connections so far.
        server_pid: The process of the server of the latest connection.
    """

    def __init__(
        self, url: str, name: str, ledger: Ledger, killed: Collection[int], on_change: Callable[[], None]
    ) -> None:
        self.waited: list[Waited] = []
        self.server_pid = 0
        self._killed = killed
        self._ledger = ledger
        self._on_change = on_change
        self.connections = 0
        self._client = waypost.Client(
            url,
            auth={"role": "driver", "driver": name},
            reconnection_delay_s=0.1,
            reconnection_delay_max_s=0.5,
        )
        self._client.on("welcome")(self._welcome)
        self._client.on("pickup")(self._pickup)
        self._client.on("announced")(self._announced)
        self._client.on("connect")(self._connected)
        self._client.on("disconnect")(self._disconnected)

    @property
    def connected(self) -> bool:
        """Whether the client is connected now."""
        return self._client.connected

    @property
    def recovered(self) -> bool:
        """Whether the server recovered the session of the connection before."""
        return self._client.recovered

    async def connect(self) -> None:
        """Connect; afterwards the client reconnects by itself.

        Raises:
            ConnectFailed: The service refused the client.
        """
        await self._client.connect()

    async def disconnect(self) -> None:
        """Disconnect gracefully."""
        await self._client.disconnect()

    async def _welcome(self, service: dict[str, int]) -> None:
        self.server_pid = service["pid"]
        self._on_change()

    async def _pickup(self, parcel: dict[str, Any]) -> None:
        if self._ledger.deliver(parcel["id"]):
            waited_s = time.time() - parcel["sent_at_ms"] / 1000
            self.waited.append(Waited(parcel["id"], waited_s, parcel["pid"] in self._killed))
        self._on_change()

    async def _announced(self, parcel: dict[str, Any]) -> None:
        self._ledger.announced.append(Announcement(parcel["id"], parcel["attempt"]))
        self._on_change()

    async def _connected(self) -> None:
        self.connections += 1
        self._on_change()

    async def _disconnected(self, _reason: str) -> None:
        self._on_change()
