"""An application with an inbox for each user, whose messages nobody fails; see test_losses.py."""

from __future__ import annotations

import json
import os
from typing import Any

import waypost
from tests.support.server_process import OPTIONS_VARIABLE

_options = json.loads(os.environ.get(OPTIONS_VARIABLE, "{}"))

io = waypost.Server(drain_s=0.1, ping_interval_s=2, ping_timeout_s=3, **_options)


@io.on("connect")
async def connect(socket: waypost.Socket, auth: dict[str, Any]) -> None:
    if "inbox" in auth:
        await socket.consume(f"inbox:{auth['inbox']}")


@io.event
async def write(socket: waypost.Socket, user: str, text: str, padding: int) -> int:
    """Put a message into a user's inbox, made longer by some bytes."""
    return (await io.queue(f"inbox:{user}").emit("note", text, "x" * padding)).offset


@io.event
async def look(socket: waypost.Socket, user: str) -> dict[str, Any]:
    """Tell what waits in a user's inbox, and why each dead letter died."""
    queue = io.queue(f"inbox:{user}")
    info = await queue.get_consumer().info()
    return {
        "waiting": info.waiting,
        "in_flight": info.in_flight,
        "attached": info.attached,
        "dead": [[letter.args[0], letter.reason] for letter in await queue.dead_letters()],
    }
