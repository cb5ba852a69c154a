"""The service: hands parcels to drivers and takes their reports.

Run it with ``waypost serve examples.parcels.service:io``. An event whose arguments do not fit the annotations never
gets here: its sender is told what was expected.
"""

from __future__ import annotations

import dataclasses
import hmac

import msgspec

import waypost
from examples.parcels.events import Credentials, Delivery, Parcel, Receipt, Status

__all__ = ["io", "make_server"]

_TOKEN = "let me in"


def make_server(store: str = "memory:") -> waypost.Server:
    """Make the service.

    Args:
        store: Where what was emitted is kept for drivers in tunnels: ``"memory:"``, or an SQLite file.
    """
    io = waypost.Server(store=store)
    parcels: dict[int, Parcel] = {}

    def waiting() -> int:
        return sum(parcel.status is not Status.DELIVERED for parcel in parcels.values())

    @io.on("connect")
    async def connect(socket: waypost.Socket, auth: Credentials) -> None:
        if not hmac.compare_digest(auth.token.encode(), _TOKEN.encode()):
            raise waypost.ConnectionRefused("wrong token")
        socket.data["driver"] = auth.driver
        await socket.join("drivers")

    @io.event
    async def offer(socket: waypost.Socket, parcel: Parcel) -> bool:
        """Take a parcel in and tell every driver; False if it is here already."""
        if parcel.id in parcels:
            return False
        parcels[parcel.id] = parcel
        await io.to("drivers").emit("parcel", parcel)
        return True

    @io.event
    async def deliver(socket: waypost.Socket, delivery: Delivery) -> Receipt | None:
        """Take a report; the other drivers hear of it."""
        known = parcels.get(delivery.parcel)
        if known is None:
            return None
        parcel = parcels[known.id] = msgspec.structs.replace(known, status=Status.DELIVERED)
        await socket.to("drivers").emit("delivered", dataclasses.replace(delivery, note=socket.data["driver"]))
        return Receipt(parcel.id, parcel.status, waiting())

    @io.event
    async def search(socket: waypost.Socket, statuses: list[Status], limit: int = 10) -> list[Parcel]:
        """Find parcels by their status."""
        return [parcel for parcel in parcels.values() if parcel.status in statuses][:limit]

    return io


io = make_server()
