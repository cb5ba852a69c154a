"""Forwards the bytes of a connection whose socket can't be handed over, because its TLS is in this process.

The other worker gets one end of a pair of sockets, as if it were the client's connection, together with where the
client comes from. It serves everything on it: later requests, uploads, WebSockets.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

__all__ = ["relay"]


def relay(outside: asyncio.Transport, inside: socket.socket, connections: set[Any], tasks: set[Any]) -> None:
    """Forward all bytes between a client and another worker, until one of them closes.

    Args:
        outside: The client's connection. Nothing has been read of it that is not handed over.
        inside: This worker's end of the pair.
        connections: The open connections, which a stopping server closes.
        tasks: Keeps references to tasks.
    """
    outer, inner = _Side(connections), _Side(connections)
    outer.begin(outside)
    outside.pause_reading()
    outside.set_protocol(outer)
    loop = asyncio.get_running_loop()

    async def join() -> None:
        try:
            await loop.connect_accepted_socket(lambda: inner, inside)
        except OSError:
            inside.close()
            outside.abort()
            return
        outer.other, inner.other = inner.transport, outside
        if outside.is_closing():
            inner.shutdown()
        else:
            outside.resume_reading()

    task = loop.create_task(join())
    tasks.add(task)
    task.add_done_callback(tasks.discard)


class _Side(asyncio.Protocol):
    """One of the two connections.

    Args:
        connections: The open connections, which a stopping server closes.

    Attributes:
        transport: This connection.
        other: The other one.
    """

    def __init__(self, connections: set[Any]) -> None:
        self.transport: asyncio.Transport
        self.other: asyncio.Transport | None = None
        self._connections = connections

    def begin(self, transport: asyncio.Transport) -> None:
        """Note this side's connection."""
        self.transport = transport
        self._connections.add(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note that the connection to the other worker is there."""
        self.begin(cast("asyncio.Transport", transport))

    def data_received(self, data: bytes) -> None:
        """Pass bytes on."""
        if self.other is not None and not self.other.is_closing():
            self.other.write(data)

    def pause_writing(self) -> None:
        """Read no more from the other side while this one is slow."""
        if self.other is not None and not self.other.is_closing():
            self.other.pause_reading()

    def resume_writing(self) -> None:
        """Read from the other side again."""
        if self.other is not None and not self.other.is_closing():
            self.other.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the other side after what is written."""
        self._connections.discard(self)
        if self.other is not None:
            self.other.close()

    def shutdown(self) -> None:
        """Close, because the server stops; called by uvicorn."""
        self.transport.close()
