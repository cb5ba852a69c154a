"""An application that tells in which order it was told of its clients; see test_lives.py.

Each client gives its name as its auth. Handlers take their time, so that they overlap wherever they may. What it was
told stands in a file beside the store, so that several workers tell it together.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import waypost
from tests.support.server_process import OPTIONS_VARIABLE

_options = json.loads(os.environ.get(OPTIONS_VARIABLE, "{}"))
io = waypost.Server(**_options)
chat = io.of("/chat")

_diary = Path(f"{_options.get('store', 'lives')}.told")


def _note(socket: waypost.Socket, what: Any) -> None:
    """Note something that was told of a client; lines of several processes do not mix, and stand in their order."""
    line = json.dumps([str(socket.handshake.auth["name"]), what])
    diary = os.open(_diary, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(diary, f"{line}\n".encode())
    os.close(diary)


@io.on("connect")
async def connect(socket: waypost.Socket) -> None:
    _note(socket, "connect")
    await asyncio.sleep(0.01)
    _note(socket, "connect.")


@io.on("disconnect")
async def disconnect(socket: waypost.Socket, reason: str) -> None:
    _note(socket, "disconnect")
    await asyncio.sleep(0.03)
    _note(socket, "disconnect.")


@io.event
async def work(socket: waypost.Socket, number: int) -> None:
    _note(socket, number)
    await asyncio.sleep(0.02)
    _note(socket, f"{number}.")


@io.event
async def hang(socket: waypost.Socket) -> None:
    _note(socket, "hang")
    while True:
        await socket.emit("still here")
        await asyncio.sleep(0.01)


@io.event
async def renew(socket: waypost.Socket) -> None:
    await socket.disconnect(resumable=True)


@io.of("/control").event
async def told(socket: waypost.Socket, name: str) -> tuple[list[Any], bool]:
    lines = [json.loads(line) for line in _diary.read_text().splitlines()] if _diary.exists() else []
    of_it = [what for whom, what in lines if whom == name]
    ends = [what for what in of_it if what in ("connect.", "disconnect.")]
    return of_it, ends[-1:] == ["connect."]


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
