"""The server whose queues the sockets of `bench.queue.sockets` consume: ``waypost serve bench.queue.app:io``."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any, Literal

import waypost
from bench.queue.documents import EVENT, document

__all__ = ["fill", "io"]

_BATCH = 5000

io = waypost.Server(queues=waypost.QueueOptions(max_bytes=1 << 40))


async def fill(queue: waypost.Queue, messages: int) -> None:
    """Put so many messages into a queue."""
    for start in range(0, messages, _BATCH):
        numbers = range(start, min(start + _BATCH, messages))
        await queue.emit_many([waypost.NewMessage(EVENT, document(number)) for number in numbers])


@io.on("fill")
async def _fill(socket: waypost.Socket, queue: str, messages: int) -> None:
    await fill(io.queue(queue), messages)


@io.on("consume")
async def _consume(
    socket: waypost.Socket, queue: str, order: Literal["strict", "key", "none"], prefetch: int
) -> None:
    await socket.consume(queue, order=order, prefetch=prefetch)


@io.on("stop")
async def _stop(socket: waypost.Socket, queue: str) -> None:
    socket.stop_consuming(queue)


@io.on("cpu")
async def _cpu(socket: waypost.Socket) -> float:
    return time.process_time()


@io.on("memory")
async def _memory(socket: waypost.Socket) -> int:
    """Tell how many bytes of memory the server has."""
    return _resident()


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@io.on("waiting")
async def _waiting(socket: waypost.Socket, queue: str) -> Any:
    """Tell how much of a queue is not acknowledged on disk."""
    info = await io.queue(queue).get_consumer().info()
    return info.waiting
