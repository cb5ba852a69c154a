"""The application under fire: handlers of every kind, none of which fails by itself."""

from __future__ import annotations

import json
import os
from typing import Any

import waypost
from tests.support.server_process import OPTIONS_VARIABLE

io = waypost.Server(**json.loads(os.environ.get(OPTIONS_VARIABLE, "{}")))
other = io.of("/other")


@io.use
async def gate(socket: waypost.Socket) -> None:
    if isinstance(socket.handshake.auth, dict) and "refuse" in socket.handshake.auth:
        raise waypost.ConnectionRefused("refused", {"because": "asked for"})


@io.on("connect")
async def connect(socket: waypost.Socket, auth: Any) -> None:
    await socket.join("everyone")


@io.event
async def echo(socket: waypost.Socket, *args: Any) -> tuple[Any, ...]:
    return args


@io.event
def slow(socket: waypost.Socket, text: str, number: int = 0) -> str:
    return f"{text}{number}"


@io.event
async def join(socket: waypost.Socket, room: Any) -> None:
    await socket.join(str(room))


@io.event
async def say(socket: waypost.Socket, *args: Any) -> None:
    await io.to("everyone").volatile.emit("said", *args[:3])


@io.event
async def leave(socket: waypost.Socket) -> None:
    await socket.disconnect()


@other.on("echo")
async def echo_other(socket: waypost.Socket, *args: Any) -> tuple[Any, ...]:
    return args
