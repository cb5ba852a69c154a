"""One server for all, in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

import waypost
from waypost.testing import ThreadSite, serve_in_thread


def make_application() -> waypost.Server:
    """Make a server that answers, asks back, and is silent when asked to."""
    io = waypost.Server()

    @io.on("connect")
    async def connect(socket: waypost.Socket, auth: Any) -> None:
        if auth and auth.get("refuse"):
            raise waypost.ConnectionRefused("not you")
        socket.data["auth"] = auth

    @io.event
    async def echo(socket: waypost.Socket, *args: Any) -> Any:
        return args

    @io.event
    async def auth(socket: waypost.Socket) -> Any:
        return socket.data["auth"]

    @io.on("ask", concurrent=True)
    async def ask(socket: waypost.Socket, event: str, *args: Any) -> Any:
        return {"answer": await socket.call(event, *args, timeout_s=5)}

    @io.on("count to", concurrent=True)
    async def count_to(socket: waypost.Socket, most: int) -> None:
        for number in range(1, most + 1):
            await socket.emit("number", number)

    @io.on("say nothing", concurrent=True)
    async def say_nothing(socket: waypost.Socket) -> None:
        while socket.connected:
            await asyncio.sleep(0.01)

    @io.of("/admin").event
    async def whoami(socket: waypost.Socket) -> Any:
        return socket.handshake.auth

    return io


@pytest.fixture(scope="module")
def site() -> Iterator[ThreadSite]:
    with serve_in_thread(make_application()) as site:
        yield site


@pytest.fixture
def client(site: ThreadSite) -> Iterator[waypost.sync.Client]:
    with waypost.sync.Client(site.url) as client:
        yield client
