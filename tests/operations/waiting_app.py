"""A server whose stop lasts until a file exists, and whose clients fill its store."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import waypost
from tests.support.server_process import OPTIONS_VARIABLE

_GO = Path(json.loads(os.environ[OPTIONS_VARIABLE])["go"])

io = waypost.Server(queues=waypost.QueueOptions(max_bytes=1 << 40))


@io.task
async def clean_up_slowly() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        while not _GO.exists():
            await asyncio.sleep(0.01)


@io.event
async def fill(socket: waypost.Socket, count: int, size: int) -> None:
    """Put messages into a queue that nobody empties."""
    for _ in range(0, count, 8):
        await asyncio.gather(*(io.queue("large").emit("message", b"x" * size) for _ in range(min(8, count))))


@io.event
async def emit(socket: waypost.Socket) -> bool:
    """Emit, and say whether it was stored."""
    try:
        await io.emit("news", "x" * 1000)
    except waypost.StorageError:
        return False
    return True
