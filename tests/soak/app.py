"""The application under the soak: calls, a numbered broadcast, a slow handler, and handlers that fail in odd ways."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from typing import Any

import waypost
from tests.support.server_process import OPTIONS_VARIABLE

io = waypost.Server(**json.loads(os.environ.get(OPTIONS_VARIABLE, "{}")))
numbers = itertools.count(1)
made_by_clients = io.of(lambda name, auth: name.startswith("/made/"))


@io.on("connect")
async def connect(socket: waypost.Socket) -> None:
    if socket.handshake.query.get("honest"):
        await socket.join("honest")


@io.event
async def echo(socket: waypost.Socket, *args: Any) -> tuple[Any, ...]:
    return args


@io.event
async def tick(socket: waypost.Socket) -> None:
    """Send the next number to all honest clients; a request that is lost with a cut line leaves no gap."""
    await io.to("honest").emit("ticked", next(numbers))


@io.event
async def slow(socket: waypost.Socket, *args: Any) -> int:
    await asyncio.sleep(2)
    return len(args)


@io.event
async def leave_the_process(socket: waypost.Socket) -> None:
    raise SystemExit(1)


@io.event
async def cancel_itself(socket: waypost.Socket) -> None:
    raise asyncio.CancelledError


@io.event
def stop_iterating(socket: waypost.Socket) -> None:
    raise StopIteration


@made_by_clients.on("connect")
async def connect_elsewhere(socket: waypost.Socket) -> None:
    return None
