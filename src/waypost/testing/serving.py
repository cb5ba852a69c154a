"""Serves an application for a test, and stops with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from waypost.serving import find_server
from waypost.testing.lifespan import lifespan
from waypost.testing.memory import MemoryConnector
from waypost.testing.site import Site
from waypost.transports.uvicorn_runner import bind, running

__all__ = ["serve", "serve_in_memory"]

_HOST = "127.0.0.1"


@asynccontextmanager
async def serve(application: Any, *, port: int = 0) -> AsyncIterator[Site]:
    """Serve an application on a port of this machine, on the running loop, until the block ends.

    Clients of any kind can connect, also a browser. A server can be served once; make one for each test.

    Args:
        application: A `waypost.Server`, or an ASGI application that holds one.
        port: The port; 0 takes a free one.

    Yields:
        What is served; its clients leave at the end.

    Raises:
        ConfigurationError: There is no server in the application, or it does not start, or the port is taken.
        StorageError: The server's store can't be opened.
    """
    io = find_server(application)
    async with running(application, io, bind(_HOST, port)) as url:
        site = Site(url, io)
        try:
            yield site
        finally:
            await site.leave()


@asynccontextmanager
async def serve_in_memory(application: Any) -> AsyncIterator[Site]:
    """Serve an application to clients of this loop, without sockets, until the block ends.

    Everything is as over a WebSocket, from the ASGI application on: handshake, headers, middleware, limits, recovery.
    There is no polling. A server can be served once; make one for each test.

    Args:
        application: A `waypost.Server`, or an ASGI application that holds one.

    Yields:
        What is served; its clients leave at the end.

    Raises:
        ConfigurationError: There is no server in the application, or it does not start.
        StorageError: The server's store can't be opened.
    """
    io = find_server(application)
    await io.start()
    connector = MemoryConnector(application)
    async with lifespan(application):
        site = Site("http://memory", io, connector=connector, transports=("websocket",))
        try:
            yield site
        finally:
            await site.leave()
            await io.close(drain_s=0)
            await connector.close()
