"""A server with a bit of everything, and a client for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

import waypost
from tests.client.serving import serving
from tests.support.link import Link


@pytest.fixture
def io() -> waypost.Server:
    """An application for the client to talk to."""
    io = waypost.Server(drain_s=0, stop_timeout_s=0.5, handler_grace_s=0.5)  # some handlers never return

    @io.on("connect")
    async def connect(socket: waypost.Socket, auth: Any) -> None:
        if auth and auth.get("refuse"):
            raise waypost.ConnectionRefused("not you", {"why": auth["refuse"]})
        socket.data["auth"] = auth

    @io.event
    async def echo(socket: waypost.Socket, *args: Any) -> Any:
        return args

    @io.event
    async def auth(socket: waypost.Socket) -> Any:
        return socket.data["auth"]

    @io.event
    async def ask(socket: waypost.Socket, event: str, *args: Any) -> Any:
        return {"answer": await socket.call(event, *args, timeout_s=2)}

    @io.event
    async def leave(socket: waypost.Socket) -> None:
        await socket.disconnect()

    return io


@pytest.fixture
async def port(io: waypost.Server) -> AsyncIterator[int]:
    async with serving(io) as port:
        yield port


@pytest.fixture
async def url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


@pytest.fixture
async def link(port: int) -> AsyncIterator[Link]:
    async with Link.to(port) as link:
        yield link
