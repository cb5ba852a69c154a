"""The server of python-socketio's `fiddle` examples, behind FastAPI: an event with several arguments.

Run it with ``waypost serve examples.ported.fiddle:app``.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

import waypost

__all__ = ["app", "io"]

io = waypost.Server()
web = FastAPI()
app = io.asgi(web)


@web.get("/hello")
async def hello() -> dict[str, str]:
    """Answer a request of HTTP."""
    return {"message": "Hello, World!"}


@io.on("connect")
async def connect(socket: waypost.Socket, auth: Any) -> None:
    """Greet a client with three arguments: python-socketio's ``(1, 2, {"hello": "you"})``."""
    print(f"connected auth={auth} sid={socket.id}")
    await socket.emit("hello", 1, 2, {"hello": "you"})


@io.on("disconnect")
async def disconnect(socket: waypost.Socket) -> None:
    """Say who has gone."""
    print("disconnected", socket.id)
