"""A parcel service that loses a parcel, announces one twice, and delivers one too late."""

from __future__ import annotations

from typing import Any

import waypost
from waypost.demo.site import Site

io = waypost.Server()
app = io.asgi(Site(None, io.describe))


@io.on("connect")
async def connect(socket: waypost.Socket, auth: dict[str, str]) -> None:
    if auth["role"] == "driver":
        await socket.join("board")
        await socket.consume(f"driver:{auth['driver']}")


@io.event
async def pickup(_socket: waypost.Socket, parcel: dict[str, Any]) -> dict[str, str]:
    passed_on = {**parcel, "run": 0}
    if parcel["id"] not in ("P-002", "P-004"):
        await deliver(passed_on)
    if parcel["id"] == "P-005":
        await deliver({**passed_on, "id": "P-004"})
    for _ in range(2 if parcel["id"] == "P-003" else 1):
        await io.to("board").emit("announced", passed_on)
    return {"accepted": parcel["id"]}


async def deliver(parcel: dict[str, Any]) -> None:
    await io.queue(f"driver:{parcel['driver']}").emit("pickup", parcel, id=parcel["id"])
