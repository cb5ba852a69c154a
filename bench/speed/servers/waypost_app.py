"""The application on Waypost: ``waypost serve bench.speed.servers.waypost_app:io``.

The environment says how: ``BENCH_RECOVERY`` (``on``, ``off``), ``BENCH_DURABILITY`` (``commit``, ``async``),
``BENCH_PING_S`` (seconds between heartbeats).
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import waypost

_recovery = waypost.Recovery() if os.environ.get("BENCH_RECOVERY", "on") == "on" else None
io = waypost.Server(
    recovery=_recovery,
    durability="async" if os.environ.get("BENCH_DURABILITY") == "async" else "commit",
    ping_interval_s=float(os.environ.get("BENCH_PING_S", "25")),
)


@io.use
async def check(socket: waypost.Socket) -> None:
    """Let in who has the token."""
    if (socket.handshake.auth or {}).get("token") != "bench":
        raise waypost.ConnectionRefused("a token is needed")


@io.on("connect")
async def connected(socket: waypost.Socket, auth: dict[str, Any]) -> None:
    """Put the newcomer into the rooms it asks for."""
    if auth.get("rooms"):
        await socket.join(*auth["rooms"])


@io.event
async def ack(socket: waypost.Socket, *args: Any) -> tuple[Any, ...]:
    """Answer, and nothing else."""
    return args


@io.event
async def emit_me(socket: waypost.Socket, value: Any) -> None:
    """Emit one event to who asks."""
    await socket.emit("told", value)


@io.event
async def blast(socket: waypost.Socket, task: dict[str, Any]) -> int:
    """Broadcast so many times, so many of them in each turn of the loop."""
    target = io.to(*task["rooms"])
    if task["except"]:
        target = target.except_(*task["except"])
    size = task["size"]
    payload: Any = b"x" * size if task["binary"] else {"text": "x" * (size - 11)}
    if task.get("together"):
        for begun in range(0, task["count"], task["in_a_turn"]):
            some = range(min(task["in_a_turn"], task["count"] - begun))
            await asyncio.gather(*(target.emit("blast", payload) for _ in some))
        return int(task["count"])
    for number in range(1, task["count"] + 1):
        await target.emit("blast", payload)
        if number % task["in_a_turn"] == 0:
            await asyncio.sleep(0)
    return int(task["count"])


@io.event
async def sockets(socket: waypost.Socket) -> int:
    """Tell how many are connected."""
    return len(await io.fetch_sockets())
