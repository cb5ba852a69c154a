"""An application whose workers emit many events at a time to those who listen."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import waypost
from tests.interop.publishing import ROOM

__all__ = ["io"]

# A client may be away for as long as its worker needs to die and its own pause lasts; many events come meanwhile.
io = waypost.Server(
    drain_s=0.2,
    recovery=waypost.Recovery(replay_max_events=1_000_000, max_events=10_000_000, replay_max_bytes=1 << 30),
)


@io.on("connect")
async def connect(socket: waypost.Socket, auth: Any) -> None:
    if (auth or {}).get("listens"):
        await socket.join(ROOM)


@io.event
async def where(socket: waypost.Socket) -> int:
    return os.getpid()


@io.event
async def pour(socket: waypost.Socket, name: str, first: int, count: int) -> int:
    await asyncio.gather(*(io.to(ROOM).emit("news", name, number) for number in range(first, first + count)))
    return count
