"""The parcel service: a shop sends pickups, a driver gets each of them by two ways.

- The **queue** of that driver, durable until the driver's phone acknowledges. The parcel's id is the message's id:
  a shop that got no answer, as the server died before giving one, asks again with the same id, and the queue
  takes the parcel in once.
- The **board**, a plain emit to a room, which the clients' connection recovery replays.

What is emitted once arrives once; but a shop that asks twice makes the service announce twice, and the service keeps
no memory of its own to know better (that memory is what the queue is for). So an announcement carries the shop's
attempt, and whoever watches the board knows two announcements of one parcel from one announcement that came twice.
The queue is the opposite: a driver whose acknowledgement was cut off gets the parcel again, and knows it by its id.
"""

from __future__ import annotations

from typing import Any

import waypost
from waypost.demo.site import Site
from waypost.demo.supervision import Supervision

__all__ = ["app", "build"]

BOARD = "board"
"""The room in which every pickup is announced."""


def build(supervision: Supervision | None) -> Any:
    """Make the service.

    Args:
        supervision: What the demo's supervisor says of this process; ``None`` if there is no supervisor.

    Returns:
        The ASGI application: Socket.IO, and the page at ``/``.
    """
    run = 0
    if supervision is not None:
        run = supervision.run
        supervision.end_with_supervisor()
    io = waypost.Server(store="memory:")

    @io.on("connect")
    async def connect(socket: waypost.Socket, auth: Any) -> None:
        match auth:
            case {"role": "shop"}:
                return
            case {"role": "driver", "driver": str(driver)}:
                await socket.emit("welcome", {"run": run})
                await socket.join(BOARD)
                await socket.consume(f"driver:{driver}")
            case _:
                raise waypost.ConnectionRefused('auth must be {"role": "shop"} or {"role": "driver", "driver": "7"}')

    @io.event
    async def pickup(socket: waypost.Socket, parcel: Any) -> dict[str, str]:
        match parcel:
            case {"id": str(parcel_id), "driver": str(driver), "attempt": int()}:
                passed_on = {**parcel, "run": run}
                await io.queue(f"driver:{driver}").emit("pickup", passed_on, id=parcel_id)
                await io.to(BOARD).emit("announced", passed_on)
                return {"accepted": parcel_id}
            case _:
                return {"refused": "a parcel has an id, a driver and an attempt"}

    return io.asgi(Site(supervision, io.describe))


app = build(Supervision.from_environment())
