"""Serves an application for a test, and stops it when the test ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

from waypost.application import handover_for
from waypost.loop_thread import LoopThread
from waypost.serving.loading import find_server
from waypost.testing.lifespan import lifespan
from waypost.testing.memory import MemoryConnector
from waypost.testing.site import Site, ThreadSite
from waypost.transports.uvicorn_runner import bind, running

__all__ = ["serve", "serve_in_memory", "serve_in_thread"]

_HOST = "127.0.0.1"
_STOP_S = 5.0
"""For how long the end of a test waits for functions and handlers that still run."""


@asynccontextmanager
async def serve(application: Any, *, port: int = 0) -> AsyncIterator[Site]:
    """Serve an application on a port of this machine, on the running loop, until the block ends.

    Any client can connect, a browser too. Make a server for each test, or serve one again that is
    closed.

    Args:
        application: A `waypost.Server`, or an ASGI application that contains one.
        port: The port, from 0 to 65535; 0 takes a free port.

    Yields:
        The served application. Its clients are closed at the end.

    Raises:
        ConfigurationError: The application contains no server, it does not start, or the port is taken.
        StorageError: The server's store can't be opened.
    """
    io = find_server(application)
    async with running(application, io, bind(_HOST, port), handover=handover_for(io)) as url:
        site = Site(url, io)
        try:
            yield site
        finally:
            await site.leave()


@asynccontextmanager
async def serve_in_memory(application: Any) -> AsyncIterator[Site]:
    """Serve an application to clients of this loop, without network sockets, until the block ends.

    Everything from the ASGI application on works as over a WebSocket: handshake, headers, middleware, limits,
    recovery. There is no polling. Make a server for each test, or serve one again that is
    closed.

    Args:
        application: A `waypost.Server`, or an ASGI application that contains one.

    Yields:
        The served application. Its clients are closed at the end.

    Raises:
        ConfigurationError: The application contains no server, or it does not start.
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
            await io.close(drain_s=0, stop_timeout_s=min(_STOP_S, io.options.stop_timeout_s))
            await connector.close()


@contextmanager
def serve_in_thread(application: Any, *, port: int = 0) -> Iterator[ThreadSite]:
    """Serve an application as `serve` does, in a thread with its own loop, for tests without asyncio.

    Args:
        application: A `waypost.Server`, or an ASGI application that contains one.
        port: The port, from 0 to 65535; 0 takes a free port.

    Yields:
        The served application. Its clients are `waypost.sync.Client` objects, and are closed at the end.

    Raises:
        ConfigurationError: The application contains no server, it does not start, or the port is taken.
        StorageError: The server's store can't be opened.
    """
    thread, ends = LoopThread("waypost-testing"), AsyncExitStack()

    async def begin() -> Site:
        return await ends.enter_async_context(serve(application, port=port))

    try:
        site = ThreadSite(thread.run(begin), thread)
        try:
            yield site
        finally:
            site.leave()
            thread.run(ends.aclose)
    finally:
        thread.stop()
