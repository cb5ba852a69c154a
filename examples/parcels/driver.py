"""A driver: takes parcels as they are offered, and reports each as delivered."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

import msgspec

import waypost
from examples.parcels.events import Credentials, Delivery, Parcel, Receipt

__all__ = ["Driver"]


class Driver:
    """One driver, connected to the service.

    Args:
        url: Where the service is.
        credentials: What to show to it.

    Attributes:
        client: The connection.
    """

    def __init__(self, url: str, credentials: Credentials) -> None:
        self.client = waypost.Client(url, auth=asdict(credentials))
        self._offered: asyncio.Queue[Parcel] = asyncio.Queue()
        self.client.on("parcel", self._take)

    async def _take(self, parcel: object) -> None:
        await self._offered.put(msgspec.convert(parcel, Parcel))

    async def next_parcel(self) -> Parcel:
        """Wait for the next parcel that is offered."""
        return await self._offered.get()

    async def deliver(self, parcel: Parcel, signature: bytes) -> Receipt:
        """Report a parcel as delivered, and wait until the service has taken note.

        Raises:
            AckTimeout: The service did not answer.
        """
        answer = await self.client.call("deliver", Delivery(parcel.id, signature))
        return msgspec.convert(answer, Receipt)
