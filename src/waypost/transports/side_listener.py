"""Serves a second application beside a server, for as long as that starts, serves and stops."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any, cast

import uvicorn

from waypost.transports.uvicorn_inside import choose_protocols

__all__ = ["SideListener", "listening_beside"]

_GRACE_S = 1
_UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class SideListener:
    """An application that is served beside a server, from before its store is opened until after it is closed.

    Args:
        app: The ASGI application. It has no lifespan and no WebSockets.
        listeners: Its bound sockets; they are closed at the end. Without any it gets connections by `take`.
    """

    def __init__(self, app: Any, listeners: Sequence[socket.socket] = ()) -> None:
        self._app = app
        self._listeners = list(listeners)
        self._server: _Beside | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve on the running loop until the block ends."""
        http, _ = choose_protocols()
        config = uvicorn.Config(
            self._app,
            http=http,
            ws="none",
            lifespan="off",
            proxy_headers=False,
            access_log=False,
            log_config=None,
            timeout_graceful_shutdown=_GRACE_S,
        )
        self._server = server = _Beside(config)
        serving = asyncio.create_task(server.serve(sockets=self._listeners))
        try:
            yield
        finally:
            self._server = None
            server.should_exit = True
            await serving

    def take(self, sock: socket.socket, data: bytes) -> None:
        """Serve a connection that another process has accepted.

        Args:
            sock: The connection, which belongs to this object from now on.
            data: What was read of it.
        """
        if self._server is None or not self._server.started:
            with sock, suppress(OSError):
                sock.send(_UNAVAILABLE)
            return
        self._server.take(sock, data)


@asynccontextmanager
async def listening_beside(sides: Sequence[SideListener]) -> AsyncIterator[None]:
    """Serve side listeners on the running loop until the block ends.

    Args:
        sides: What to serve.
    """
    async with AsyncExitStack() as stack:
        for side in sides:
            await stack.enter_async_context(side.running())
        yield


class _Beside(uvicorn.Server):
    """uvicorn's server without signals: they are the main server's."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._beginning: set[asyncio.Task[Any]] = set()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    def take(self, sock: socket.socket, data: bytes) -> None:
        """Serve a connection of which something was read."""
        loop = asyncio.get_running_loop()
        sock.setblocking(False)
        task = loop.create_task(self._begin(loop, sock, data))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    async def _begin(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, data: bytes) -> None:
        make = cast("Any", self.config.http_protocol_class)

        def begin() -> asyncio.Protocol:
            protocol = make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
            return _Beginning(protocol, data)

        try:
            await loop.connect_accepted_socket(begin, sock)
        except OSError:  # the client is gone
            sock.close()


class _Beginning(asyncio.Protocol):
    """Begins a connection with what was read of it by another process.

    Args:
        protocol: The protocol that goes on.
        data: What was read.
    """

    def __init__(self, protocol: asyncio.Protocol, data: bytes) -> None:
        self._protocol = protocol
        self._data = bytearray(data)
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the connection's protocol begin."""
        self._transport = transport
        self._protocol.connection_made(transport)
        # Not from within this call: it is no place to stop reading, as a large body does.
        asyncio.get_running_loop().call_soon(self._begin)

    def data_received(self, data: bytes) -> None:
        """Keep bytes that come before the first ones were handed on: uvloop may read before `_begin` is called."""
        self._data += data

    def eof_received(self) -> bool | None:
        """Hand on what has come, then the end."""
        self._begin()
        return self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the protocol that the connection is lost."""
        self._transport = None
        self._protocol.connection_lost(exc)

    def _begin(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None and not transport.is_closing():
            transport.set_protocol(self._protocol)
            self._protocol.data_received(bytes(self._data))
