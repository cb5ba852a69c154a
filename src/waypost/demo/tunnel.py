"""A stretch of the way between a client and the server that can really be cut."""

from __future__ import annotations

import asyncio
import socket
import struct
from types import TracebackType
from typing import Self

__all__ = ["Tunnel"]

_HOST = "127.0.0.1"
_CHUNK_BYTES = 65536
# Linger on, for 0 s: closing the socket resets its connection.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Tunnel:
    """A TCP relay. Cut, it resets every connection through it, in both directions: neither side gets a goodbye.

    Use it as an asynchronous context manager: it starts open, and ends cut.

    Args:
        port: The port on this machine that it leads to.
    """

    def __init__(self, port: int) -> None:
        self._target_port = port
        self._is_open = False
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """The address of its entrance."""
        if self._server is None:
            raise RuntimeError("the tunnel was not built")
        return f"http://{_HOST}:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        """Build it, open."""
        self._server = await asyncio.start_server(self._relay, _HOST, 0)
        self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cut it, and take its entrance away."""
        self.cut()
        if self._server is not None:
            self._server.close()

    def open(self) -> None:
        """Let connections through."""
        self._is_open = True

    def cut(self) -> None:
        """Reset every connection, and every new one too until it is opened again."""
        self._is_open = False
        for writer in list(self._writers):
            _reset(writer)

    async def _relay(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        if not self._is_open:
            _reset(to_client)
            return
        self._writers.add(to_client)
        try:
            server, to_server = await asyncio.open_connection(_HOST, self._target_port)
        except OSError:
            # The server is down: the client's connection ends as it would have without a tunnel.
            self._forget(to_client)
            return
        self._writers.add(to_server)
        try:
            await asyncio.gather(_copy(client, to_server), _copy(server, to_client))
        finally:
            self._forget(to_client)
            self._forget(to_server)

    def _forget(self, writer: asyncio.StreamWriter) -> None:
        self._writers.discard(writer)
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(_CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
    except ConnectionError:
        # One side was reset, by the tunnel or by a killed server; the other side is told.
        _reset(writer)
        return
    writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    if connection is not None and connection.fileno() != -1:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()
