"""An application that tells in which order it was told of its clients; see test_lives.py.

Each client gives its name as its auth. Handlers take their time, so that they overlap wherever they may.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import waypost
from tests.support.server_process import OPTIONS_VARIABLE

io = waypost.Server(**json.loads(os.environ.get(OPTIONS_VARIABLE, "{}")))
chat = io.of("/chat")

_told: dict[str, list[Any]] = {}
_online: set[str] = set()


def _of(socket: waypost.Socket) -> str:
    return str(socket.handshake.auth["name"])


@io.on("connect")
async def connect(socket: waypost.Socket) -> None:
    told = _told.setdefault(_of(socket), [])
    told.append("connect")
    await asyncio.sleep(0.01)
    _online.add(_of(socket))
    told.append("connect.")


@io.on("disconnect")
async def disconnect(socket: waypost.Socket, reason: str) -> None:
    told = _told[_of(socket)]
    told.append("disconnect")
    await asyncio.sleep(0.03)
    _online.discard(_of(socket))
    told.append("disconnect.")


@io.event
async def work(socket: waypost.Socket, number: int) -> None:
    told = _told[_of(socket)]
    told.append(number)
    await asyncio.sleep(0.02)
    told.append(f"{number}.")


@io.event
async def hang(socket: waypost.Socket) -> None:
    _told[_of(socket)].append("hang")
    while True:
        await socket.emit("still here")
        await asyncio.sleep(0.01)


@io.event
async def renew(socket: waypost.Socket) -> None:
    await socket.disconnect(resumable=True)


@io.of("/control").event
async def told(socket: waypost.Socket, name: str) -> tuple[list[Any], bool]:
    return _told.get(name, []), name in _online


@io.of("/control").event
async def publish(socket: waypost.Socket, number: int) -> None:
    await io.emit("news", number)


@io.of("/control").event
async def end_all(socket: waypost.Socket) -> None:
    await io.disconnect_sockets()


@io.of("/control").event
async def burden(socket: waypost.Socket, attachments: int, size: int) -> None:
    await io.emit("burden", [b"x"] * attachments, "x" * size)


class Chat:
    """The example of docs/events.md."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}

    async def on_connect(self, socket: waypost.Socket, auth: dict[str, Any]) -> None:
        self.names[socket.id] = auth["name"]

    async def on_say(self, socket: waypost.Socket, text: str) -> None:
        await asyncio.sleep(0.005)
        await chat.emit("said", self.names[socket.id], text)

    async def on_disconnect(self, socket: waypost.Socket, reason: str) -> None:
        del self.names[socket.id]


chat.register(Chat())
