"""The server of python-socketio's `app` examples: echo, broadcast, rooms, and a task that emits.

Run it with ``waypost serve examples.ported.rooms:app``.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from starlette.staticfiles import StaticFiles

import waypost

__all__ = ["app", "io"]

Data = dict[str, Any]
PAUSE_S = 10.0

io = waypost.Server()

# static_files={"/": "app.html"}
app = io.asgi(StaticFiles(directory=Path(__file__).parent / "page", html=True))


@io.task
async def background_task() -> None:
    """Emit to everybody while the server runs: ``start_background_task``, without a flag that it has begun."""
    while True:
        await asyncio.sleep(PAUSE_S)
        await io.emit("my_response", {"data": "Server generated event"})


@io.on("connect")
async def connect(socket: waypost.Socket) -> None:
    """Greet a client."""
    await socket.emit("my_response", {"data": "Connected", "count": 0})


@io.on("disconnect")
async def disconnect(socket: waypost.Socket, reason: str) -> None:
    """Say who has gone."""
    print("Client disconnected", socket.id, reason)


@io.event
async def my_event(socket: waypost.Socket, message: Data) -> None:
    """Answer the sender: ``room=sid``."""
    await socket.emit("my_response", {"data": message["data"]})


@io.event
async def my_broadcast_event(socket: waypost.Socket, message: Data) -> None:
    """Answer everybody."""
    await io.emit("my_response", {"data": message["data"]})


@io.event
async def join(socket: waypost.Socket, message: Data) -> None:
    """Let the sender into a room."""
    await socket.join(message["room"])
    await socket.emit("my_response", {"data": f"Entered room: {message['room']}"})


@io.event
async def leave(socket: waypost.Socket, message: Data) -> None:
    """Take the sender out of a room."""
    await socket.leave(message["room"])
    await socket.emit("my_response", {"data": f"Left room: {message['room']}"})


@io.event
async def my_room_event(socket: waypost.Socket, message: Data) -> None:
    """Tell a room."""
    await io.to(message["room"]).emit("my_response", {"data": message["data"]})


@io.on("close room")
@io.on("close_room")
async def close_room(socket: waypost.Socket, message: Data) -> None:
    """Tell a room that it closes, and empty it: ``close_room``."""
    room = io.in_(message["room"])
    await room.emit("my_response", {"data": f"Room {message['room']} is closing."})
    await room.sockets_leave(message["room"])


@io.on("disconnect request")
@io.on("disconnect_request")
async def disconnect_request(socket: waypost.Socket) -> None:
    """Send the sender away."""
    await socket.disconnect()
