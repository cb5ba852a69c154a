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
        inside: This worker's end of the pair, non-blocking.
        connections: The open connections, which a stopping server closes.
        tasks: Keeps references to tasks.
    """
    client, worker = _Side(connections), _Side(connections)
    # The worker's answer may come before the client is read on.
    client.other, worker.other = worker, client
    outside.pause_reading()
    outside.set_protocol(client)
    client.connection_made(outside)
    loop = asyncio.get_running_loop()

    async def join() -> None:
        try:
            await loop.connect_accepted_socket(lambda: worker, inside)
        except OSError:
            inside.close()
            outside.abort()
        else:
            if not outside.is_closing():
                outside.resume_reading()

    task = loop.create_task(join())
    tasks.add(task)
    task.add_done_callback(tasks.discard)


class _Side(asyncio.Protocol):
    """One of the two connections.

    Args:
        connections: The open connections, which a stopping server closes.

    Attributes:
        other: The other one.
        transport: The connection, once it is there.
        is_lost: Whether it is lost.
    """

    def __init__(self, connections: set[Any]) -> None:
        self.other: _Side
        self.transport: asyncio.Transport | None = None
        self.is_lost = False
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to forward."""
        self.transport = cast("asyncio.Transport", transport)
        self._connections.add(self)
        if self.other.is_lost:
            self.shutdown()

    def data_received(self, data: bytes) -> None:
        """Pass bytes on."""
        other = self.other.transport
        if other is not None and not other.is_closing():
            other.write(data)

    def pause_writing(self) -> None:
        """Read no more from the other side while this one is slow."""
        other = self.other.transport
        if other is not None and not other.is_closing():
            other.pause_reading()

    def resume_writing(self) -> None:
        """Read from the other side again."""
        other = self.other.transport
        if other is not None and not other.is_closing():
            other.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the other side after what is written."""
        self.is_lost = True
        self._connections.discard(self)
        self.other.shutdown()

    def shutdown(self) -> None:
        """Close after what is written; called by uvicorn when the server stops."""
        if self.transport is not None:
            self.transport.close()
