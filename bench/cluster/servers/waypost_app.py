"""The application on Waypost: ``waypost serve bench.cluster.servers.waypost_app:io --store …``."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import waypost

io = waypost.Server()


@io.event
async def run(socket: waypost.Socket, task: dict[str, Any]) -> dict[str, float]:
    """Emit numbered events, so many a second, each awaited."""
    padding = "x" * task["size"]
    begun = time.monotonic()
    for number in range(task["count"]):
        await asyncio.sleep(max(0.0, number / task["per_s"] - (time.monotonic() - begun)))
        await io.emit("tick", task["first"] + number, time.time() * 1000, padding)
    return {}


@io.event
async def flood(socket: waypost.Socket, task: dict[str, Any]) -> dict[str, float]:
    """Emit to nobody for a time, so many at once, each awaited; returns how many went in how many seconds."""
    padding = "x" * task["size"]
    begun = time.monotonic()
    end = begun + task["seconds"]

    async def emit() -> int:
        emitted = 0
        while time.monotonic() < end:
            await io.to("nobody").emit("flood", padding)
            emitted += 1
        return emitted

    counts = await asyncio.gather(*(emit() for _ in range(task["in_flight"])))
    return {"emits": sum(counts), "seconds": time.monotonic() - begun}
