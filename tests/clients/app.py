"""The application that the client programs talk to; see programs/README.md for what they say to it."""

from __future__ import annotations

from typing import Any

import waypost

io = waypost.Server(allow_eio3=True, cors_allowed_origins="*", ping_interval_s=1, ping_timeout_s=5, drain_s=0.1)


@io.on("connect")
async def connect(socket: waypost.Socket) -> None:
    name = socket.handshake.query.get("name")
    if name:
        await socket.join(name)
        if socket.handshake.query.get("consume") != "no":
            await socket.consume(name)


@io.event
async def echo(socket: waypost.Socket, *args: Any) -> Any:
    return args


@io.event
async def ask(socket: waypost.Socket, data: Any) -> Any:
    """Ask the client itself, and return what it answers."""
    return await socket.call("question", data, timeout_s=20)


@io.event
async def publish(socket: waypost.Socket, room: str, number: int) -> bool:
    await io.to(room).emit("news", number)
    return True


@io.event
async def publish_bytes(socket: waypost.Socket, room: str) -> bool:
    await io.to(room).emit("bytes", b"\x00\x10\xff")
    return True


@io.event
async def enqueue(socket: waypost.Socket, queue: str, number: int) -> bool:
    await io.queue(queue).emit("job", number)
    return True


@io.event
async def waiting(socket: waypost.Socket, queue: str) -> int:
    """Return how many messages of a queue are not acknowledged."""
    return sum(consumer.waiting for consumer in await io.queue(queue).consumers())


@io.of("/other").on("echo")
async def echo_elsewhere(socket: waypost.Socket, *args: Any) -> Any:
    return ("other", *args)
