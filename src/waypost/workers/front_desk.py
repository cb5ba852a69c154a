"""Answers on the addresses beside the service for all workers: probes here, all else by a worker.

Workers come and go; the parent is there from before the store is opened until all have ended. So it answers
``/livez`` and ``/readyz`` itself. A request for anything else goes to a worker, with its connection and what was read
of it.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import cast

from waypost.serving.sides import Part, part_of
from waypost.workers.messages import Visit
from waypost.workers.worker import Worker

__all__ = ["FrontDesk", "Reception"]

_MAX_HEAD_BYTES = 65_536
_HEAD_TIMEOUT_S = 10.0
_HEAD_END = b"\r\n\r\n"
_BACKLOG = 1024
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


class FrontDesk:
    """Answers what comes to the addresses beside the service.

    Args:
        is_alive: Returns what ``/livez`` is to say.
        is_ready: Returns what ``/readyz`` is to say.
        workers: Returns the workers; those that serve get the other requests, one after the other.
    """

    def __init__(
        self, is_alive: Callable[[], bool], is_ready: Callable[[], bool], workers: Callable[[], Sequence[Worker]]
    ) -> None:
        self._is_alive = is_alive
        self._is_ready = is_ready
        self._workers = workers
        self._turn = 0

    @asynccontextmanager
    async def open(self, sides: Mapping[tuple[Part, ...], Sequence[socket.socket]]) -> AsyncIterator[None]:
        """Answer while the block runs.

        Args:
            sides: What is answered, and the bound sockets, which are closed at the end.
        """
        loop = asyncio.get_running_loop()
        servers: list[asyncio.Server] = []
        visitors: set[Reception] = set()
        try:
            for parts, listeners in sides.items():
                for one in listeners:
                    server = await loop.create_server(
                        lambda parts=parts: Reception(self, parts, visitors),  # type: ignore[misc]
                        sock=one,
                        backlog=_BACKLOG,
                    )
                    servers.append(server)
            yield
        finally:
            for server in servers:
                server.close()
            for listeners in sides.values():
                for one in listeners:
                    one.close()
            for visitor in [*visitors]:
                visitor.end()

    def probe(self, path: str) -> int:
        """Return the status for a probe."""
        return 200 if (self._is_alive() if path == "/livez" else self._is_ready()) else 503

    def next_worker(self) -> Worker | None:
        """Return the worker whose turn it is; ``None`` if none serves."""
        serving = [one for one in self._workers() if one.serves]
        self._turn += 1
        return serving[self._turn % len(serving)] if serving else None


class Reception(asyncio.Protocol):
    """One connection, until its first request is answered or handed to a worker.

    Args:
        desk: Knows the answers.
        parts: What is answered on its address.
        visitors: The open connections, this one among them.
    """

    def __init__(self, desk: FrontDesk, parts: tuple[Part, ...], visitors: set[Reception]) -> None:
        self._desk = desk
        self._parts = parts
        self._visitors = visitors
        self._read = bytearray()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request, for some seconds."""
        self._transport = cast("asyncio.Transport", transport)
        self._visitors.add(self)
        self._timer = asyncio.get_running_loop().call_later(_HEAD_TIMEOUT_S, self.end)

    def end(self) -> None:
        """Close the connection after what is written."""
        if self._transport is not None:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._visitors.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Take bytes; answer once a request's headers are complete."""
        if self._transport is None or self._transport.is_closing():
            return
        self._read += data
        end = self._read.find(_HEAD_END)
        if end > _MAX_HEAD_BYTES or (end < 0 and len(self._read) > _MAX_HEAD_BYTES):
            self._answer(431)
        elif end >= 0:
            self._decide(self._transport)

    def _decide(self, transport: asyncio.Transport) -> None:
        words = bytes(self._read[: self._read.find(b"\r\n")]).split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            self._answer(400)
            return
        method, path = words[0], words[1].partition(b"?")[0].decode("latin-1")
        part = part_of(path)
        if part is None or part not in self._parts:
            self._answer(404)
        elif part != "health":
            self._hand_over(transport)
        elif method not in (b"GET", b"HEAD"):
            self._answer(405, "allow: GET, HEAD\r\n")
        else:
            self._answer(self._desk.probe(path))

    def _hand_over(self, transport: asyncio.Transport) -> None:
        worker = self._desk.next_worker()
        if worker is None:
            self._answer(503, "retry-after: 1\r\n")
            return
        transport.pause_reading()
        try:
            descriptor = os.dup(transport.get_extra_info("socket").fileno())
        except OSError:  # there is none left
            self._answer(503, "retry-after: 1\r\n")
            return
        worker.send(Visit(self._parts, bytes(self._read)), socket.socket(fileno=descriptor))
        # Closes this process's descriptor. The connection stays open in the other one.
        transport.abort()

    def _answer(self, status: int, headers: str = "") -> None:
        if self._transport is not None:
            head = f"HTTP/1.1 {status} {_REASONS[status]}\r\n{headers}cache-control: no-store\r\n"
            self._transport.write(f"{head}content-length: 0\r\nconnection: close\r\n\r\n".encode())
            self._transport.close()
