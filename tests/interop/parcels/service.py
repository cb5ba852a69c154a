"""The parcel service: what shops ship waits for the office, which hands each parcel to its driver's queue."""

from __future__ import annotations

import json
import os
from typing import Any

import waypost
from tests.support.server_process import OPTIONS_VARIABLE

OFFICE = "office"

io = waypost.Server(**json.loads(os.environ.get(OPTIONS_VARIABLE, "{}")))


def van(driver: str) -> str:
    """Name a driver's queue."""
    return f"driver:{driver}"


@io.on("connect")
async def connect(socket: waypost.Socket, auth: dict[str, str]) -> None:
    if auth["role"] == "clerk":
        # Two parcels for the same driver must not overtake each other between two clerks.
        await socket.consume(OFFICE, order="key", prefetch=4)
    elif auth["role"] == "driver":
        await socket.consume(van(auth["driver"]))


@io.event
async def ship(socket: waypost.Socket, parcel: str, driver: str) -> int:
    """Take a parcel in; answered when it is on disk. A repeat is answered like the first."""
    return (await io.queue(OFFICE).emit("parcel", parcel, driver, id=parcel, key=driver)).offset


@io.event
async def assign(socket: waypost.Socket, parcel: str, driver: str) -> int:
    """Put a parcel into its driver's van; a repeat is answered like the first."""
    return (await io.queue(van(driver)).emit("parcel", parcel, id=parcel)).offset


@io.event
async def look(socket: waypost.Socket, drivers: list[str]) -> dict[str, Any]:
    """Tell the numbers of each queue and of its consumers."""
    return {name: await _numbers(name) for name in (OFFICE, *map(van, drivers))}


async def _numbers(name: str) -> dict[str, Any]:
    queue = io.queue(name)
    info = await queue.info()
    return {
        "messages": info.messages,
        "newest": info.newest_offset,
        "dead": info.dead_letters,
        "consumers": [
            {
                "offset": one.offset,
                "waiting": one.waiting,
                "retrying": one.retrying,
                "in_flight": one.in_flight,
                "attached": one.attached,
            }
            for one in await queue.consumers()
        ],
    }
