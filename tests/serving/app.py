"""An application that tells its server's options. What is served may be a function around the server."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

import waypost

io = waypost.Server(ping_interval_s=9, ping_timeout_s=8, drain_s=0.1)


@io.event
async def options(socket: waypost.Socket) -> list[Any]:
    of = io.options
    recovery = of.recovery
    events = None if recovery is None else recovery.max_events
    return [of.ping_interval_s, of.ping_timeout_s, of.max_payload_bytes, events, os.environ.get("OWN")]


@io.event
async def origin(socket: waypost.Socket) -> list[Any]:
    """Where the client comes from, as far as the server believes it."""
    return [socket.handshake.address, socket.handshake.secure]


async def wrapped(scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    await io(scope, receive, send)
