"""An application with the HTTP API below ``/api``, for servers in processes of their own."""

from __future__ import annotations

import os
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Mount

import waypost
from tests.operations.places import key

io = waypost.Server(drain_s=0.1)


@io.on("connect")
async def connect(socket: waypost.Socket, auth: Any) -> None:
    await socket.join("all")


@io.event
async def where(socket: waypost.Socket) -> int:
    return os.getpid()


@io.event
async def consume(socket: waypost.Socket, queue: str) -> None:
    await socket.consume(queue)


application = io.asgi(Starlette(routes=[Mount("/api", io.api(keys=[key(requests_per_s=100_000)]))]))
