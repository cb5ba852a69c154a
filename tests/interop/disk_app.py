"""An application that says why the store did not take something; see test_full_disk.py."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable
from typing import Any

import waypost
from tests.support.server_process import OPTIONS_VARIABLE

STORED = "stored"

io = waypost.Server(drain_s=0.2, ping_interval_s=5, **json.loads(os.environ.get(OPTIONS_VARIABLE, "{}")))


@io.on("connect")
async def connect(socket: waypost.Socket, auth: dict[str, Any]) -> None:
    if not socket.recovered:
        await socket.join("listeners")
    if "consume" in auth:
        await socket.consume(auth["consume"])


@io.event
async def echo(socket: waypost.Socket, *args: Any) -> tuple[Any, ...]:
    return args


@io.event
async def enqueue(socket: waypost.Socket, queue: str, number: int, size: int) -> str:
    return await _problem(io.queue(queue).emit("job", number, b"x" * size))


@io.event
async def publish(socket: waypost.Socket, number: int, size: int) -> str:
    return await _problem(io.to("listeners").emit("news", number, b"x" * size))


@io.event
async def whisper(socket: waypost.Socket, number: int) -> None:
    """Emit to everybody what is not stored."""
    await io.volatile.emit("whisper", number)


@io.event
async def waiting(socket: waypost.Socket, queue: str) -> int:
    return (await io.queue(queue).get_consumer().info()).waiting


async def _problem(done: Awaitable[Any]) -> str:
    """Wait for it, and say what the store's error says."""
    try:
        await done
    except waypost.StorageError as error:
        return f"{type(error).__name__}: {error}"
    return STORED
