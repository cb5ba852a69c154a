"""The application on python-socketio with its Redis manager: ``uvicorn …:asgi``, with BENCH_REDIS set."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import socketio  # type: ignore[import-untyped]

sio = socketio.AsyncServer(async_mode="asgi", client_manager=socketio.AsyncRedisManager(os.environ["BENCH_REDIS"]))
asgi = socketio.ASGIApp(sio)


@sio.event  # type: ignore[untyped-decorator]
async def run(sid: str, task: dict[str, Any]) -> dict[str, float]:
    """Emit numbered events, so many a second, each awaited."""
    padding = "x" * task["size"]
    begun = time.monotonic()
    for number in range(task["count"]):
        await asyncio.sleep(max(0.0, number / task["per_s"] - (time.monotonic() - begun)))
        await sio.emit("tick", (task["first"] + number, time.time() * 1000, padding))
    return {}


@sio.event  # type: ignore[untyped-decorator]
async def flood(sid: str, task: dict[str, Any]) -> dict[str, float]:
    """Emit to nobody for a time, so many at once, each awaited; returns how many went in how many seconds."""
    padding = "x" * task["size"]
    begun = time.monotonic()
    end = begun + task["seconds"]

    async def emit() -> int:
        emitted = 0
        while time.monotonic() < end:
            await sio.emit("flood", padding, room="nobody")
            emitted += 1
        return emitted

    counts = await asyncio.gather(*(emit() for _ in range(task["in_flight"])))
    return {"emits": sum(counts), "seconds": time.monotonic() - begun}
