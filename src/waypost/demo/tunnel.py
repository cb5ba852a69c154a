"""A part of the connection between client and server that can be cut."""

from __future__ import annotations

import asyncio
import socket
import struct
from types import TracebackType
from typing import Self

__all__ = ["Tunnel"]

_HOST = "127.0.0.1"
_CHUNK_BYTES = 65536
# SO_LINGER with 0 s: closing the socket resets its connection.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Tunnel:
    """A TCP relay. A cut resets every connection through it in both directions, without a FIN.

    It is an asynchronous context manager: it starts open, and ends cut.

    Args:
        ports: The target ports on this machine. Each connection goes to the next one, as before several servers.
    """

    def __init__(self, *ports: int) -> None:
        self._target_ports = ports
        self._turn = 0
        self._is_open = False
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """The address of the tunnel's entrance."""
        if self._server is None:
            raise RuntimeError("the tunnel was not built")
        return f"http://{_HOST}:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        """Start the relay, open."""
        self._server = await asyncio.start_server(self._relay, _HOST, 0)
        self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cut the tunnel, and close its entrance."""
        self.cut()
        if self._server is not None:
            self._server.close()

    def open(self) -> None:
        """Accept connections."""
        self._is_open = True

    def cut(self) -> None:
        """Reset every connection, and each new one until `open` is called."""
        self._is_open = False
        for writer in list(self._writers):
            _reset(writer)

    async def _relay(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        if not self._is_open:
            _reset(to_client)
            return
        self._writers.add(to_client)
        try:
            server, to_server = await self._connect()
        except OSError:
            # The servers are down: close the client's connection, as would happen without a tunnel.
            self._forget(to_client)
            return
        self._writers.add(to_server)
        try:
            await asyncio.gather(_copy(client, to_server), _copy(server, to_client))
        finally:
            self._forget(to_client)
            self._forget(to_server)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        for _ in self._target_ports[1:]:
            try:
                return await asyncio.open_connection(_HOST, self._next())
            except OSError:
                continue
        return await asyncio.open_connection(_HOST, self._next())

    def _next(self) -> int:
        self._turn += 1
        return self._target_ports[self._turn % len(self._target_ports)]

    def _forget(self, writer: asyncio.StreamWriter) -> None:
        self._writers.discard(writer)
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(_CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
    except ConnectionError:
        # The tunnel or a killed server reset one side: reset the other side too.
        _reset(writer)
        return
    writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    if connection is not None and connection.fileno() != -1:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()
