"""The parcel service: a shop sends pickups, and the driver gets each of them in two ways.

- The driver's **queue**, durable until the driver's phone acknowledges. The parcel's id is the message's id. If the
  server dies before it answers, the shop sends the parcel again with the same id, and the queue keeps it only once.
- The **board**, a plain emit to a room, which connection recovery replays.

An event emitted once arrives once. But a shop that sends a parcel twice makes the service announce it twice, because
the service remembers no parcels; remembering is the queue's job. An announcement therefore carries the shop's
attempt: two announcements of one parcel differ, and one announcement that arrived twice does not. The queue is the
opposite: a driver whose acknowledgement was lost gets the parcel again, and recognises its id.
"""

from __future__ import annotations

import os
from typing import Any

import waypost
from waypost.demo.site import Site
from waypost.demo.supervision import Supervision

__all__ = ["app", "build"]

BOARD = "board"
"""The room that gets every announcement."""


def build(supervision: Supervision | None) -> Any:
    """Build the service.

    Args:
        supervision: The message of the demo's supervisor to this process; ``None`` without a supervisor.

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
                await socket.emit("welcome", {"run": run, "pid": os.getpid()})
                await socket.join(BOARD)
                await socket.consume(f"driver:{driver}")
            case _:
                raise waypost.ConnectionRefused('auth must be {"role": "shop"} or {"role": "driver", "driver": "7"}')

    @io.event
    async def pickup(socket: waypost.Socket, parcel: Any) -> dict[str, str]:
        match parcel:
            case {"id": str(parcel_id), "driver": str(driver), "attempt": int()}:
                passed_on = {**parcel, "run": run, "pid": os.getpid()}
                await io.queue(f"driver:{driver}").emit("pickup", passed_on, id=parcel_id)
                await io.to(BOARD).emit("announced", passed_on)
                return {"accepted": parcel_id}
            case _:
                return {"refused": "a parcel has an id, a driver and an attempt"}

    return io.asgi(Site(supervision, io.describe))


app = build(Supervision.from_environment())
