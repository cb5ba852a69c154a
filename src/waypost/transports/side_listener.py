"""Serves a second application on sockets of its own, for as long as a server starts, serves and stops."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn

from waypost.transports.uvicorn_inside import choose_protocols

__all__ = ["SideListener", "listening_beside"]

_GRACE_S = 1


@dataclass(frozen=True, slots=True)
class SideListener:
    """An application that is served beside a server, from before its store is opened until after it is closed.

    Attributes:
        app: The ASGI application. It has no lifespan and no WebSockets.
        listeners: Its bound sockets; they are closed at the end.
    """

    app: Any
    listeners: list[socket.socket]


@asynccontextmanager
async def listening_beside(side: SideListener | None) -> AsyncIterator[None]:
    """Serve a side listener on the running loop until the block ends.

    Args:
        side: What to serve; ``None`` for nothing.
    """
    if side is None:
        yield
        return
    http, _ = choose_protocols()
    config = uvicorn.Config(
        side.app,
        http=http,
        ws="none",
        lifespan="off",
        proxy_headers=False,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=_GRACE_S,
    )
    server = _Beside(config)
    serving = asyncio.create_task(server.serve(sockets=side.listeners))
    try:
        yield
    finally:
        server.should_exit = True
        await serving


class _Beside(uvicorn.Server):
    """uvicorn's server without signals: they are the main server's."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield
