"""What a user's conftest.py would have."""

from __future__ import annotations

from typing import Any

import pytest

import waypost
from waypost.testing.async_fixtures import HALVES
from waypost.testing.fixtures import waypost_auth, waypost_client, waypost_in_memory, waypost_site

__all__ = ["waypost_auth", "waypost_client", "waypost_in_memory", "waypost_site"]

globals().update(HALVES)  # a project says pytest_plugins = ["waypost.testing.fixtures"]


def make_application() -> waypost.Server:
    """Make a server with a bit of everything."""
    io = waypost.Server()

    @io.on("connect")
    async def connect(socket: waypost.Socket, auth: Any) -> None:
        if auth and auth.get("refuse"):
            raise waypost.ConnectionRefused("not you", {"why": auth["refuse"]})

    @io.event
    async def echo(socket: waypost.Socket, *args: Any) -> Any:
        return args

    @io.event
    async def header(socket: waypost.Socket, name: str) -> str | None:
        return socket.handshake.headers.get(name)

    return io


@pytest.fixture
def waypost_application() -> waypost.Server:
    return make_application()
