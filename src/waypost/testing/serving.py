"""Serves an application for a test, and stops with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

from waypost.client.loop_thread import LoopThread
from waypost.serving import find_server
from waypost.testing.lifespan import lifespan
from waypost.testing.memory import MemoryConnector
from waypost.testing.site import Site, ThreadSite
from waypost.transports.uvicorn_runner import bind, running

__all__ = ["serve", "serve_in_memory", "serve_in_thread"]

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


@contextmanager
def serve_in_thread(application: Any, *, port: int = 0) -> Iterator[ThreadSite]:
    """Serve an application like `serve`, in a thread of its own, for tests without asyncio.

    Args:
        application: A `waypost.Server`, or an ASGI application that holds one.
        port: The port; 0 takes a free one.

    Yields:
        What is served; its clients are `waypost.sync.Client`s, and leave at the end.

    Raises:
        ConfigurationError: There is no server in the application, or it does not start, or the port is taken.
        StorageError: The server's store can't be opened.
    """
    thread, ends = LoopThread("waypost-testing"), AsyncExitStack()

    async def begin() -> Site:
        return await ends.enter_async_context(serve(application, port=port))

    try:
        site = ThreadSite(thread.run(begin()), thread)
        try:
            yield site
        finally:
            site.leave()
            thread.run(ends.aclose())
    finally:
        thread.stop()
