"""HTTP as long-polling clients speak it: one connection, one request at a time, kept alive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from bench.speed.asking import Unexpected

__all__ = ["HttpConnection", "connect_http", "get_request", "post_request", "split_response"]

_PATH = "/socket.io/?EIO=4&transport=polling"


def get_request(port: int, sid: str = "") -> bytes:
    """Give a poll; without a session, the request that opens one."""
    return f"GET {_PATH}{_session(sid)} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: */*\r\n\r\n".encode()


def post_request(port: int, sid: str, body: str) -> bytes:
    """Give a POST of packets."""
    return (
        f"POST {_PATH}{_session(sid)} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: */*\r\n"
        f"Content-Type: text/plain;charset=UTF-8\r\nContent-Length: {len(body.encode())}\r\n\r\n{body}"
    ).encode()


def _session(sid: str) -> str:
    return f"&sid={sid}" if sid else ""


def split_response(data: bytes) -> tuple[bytes, bytes] | None:
    """Take a response off what was received.

    Returns:
        Its body and what comes after it; ``None`` if it is not all there yet.

    Raises:
        Unexpected: It is no success.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    head, start = data[:end].lower(), end + 4
    if not head.startswith(b"http/1.1 200"):
        raise Unexpected(f"HTTP: {data[:300]!r}")
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        return _split_chunks(data, start)
    length = int(head[at + 17 :].split(b"\r\n", 1)[0])
    return (data[start : start + length], data[start + length :]) if len(data) >= start + length else None


def _split_chunks(data: bytes, at: int) -> tuple[bytes, bytes] | None:
    body = b""
    while True:
        line = data.find(b"\r\n", at)
        if line < 0:
            return None
        size = int(data[at:line], 16)
        start, at = line + 2, line + 4 + size
        if len(data) < at:
            return None
        if not size:
            return body, data[at:]
        body += data[start : start + size]


class HttpConnection(asyncio.Protocol):
    """A connection that is asked again when it has answered.

    Attributes:
        on_body: Called with the body of each response.
        transport: The connection.
    """

    def __init__(self) -> None:
        self.on_body: Callable[[bytes], None] = self._answer
        self.transport: asyncio.Transport
        self._buffer = b""
        self._waiting: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Have the connection."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Take a response."""
        if self._buffer:
            data = self._buffer + data
        try:
            found = split_response(data)
        except Unexpected as error:
            self._fail(error)
            self.transport.abort()
            return
        if found is None:
            self._buffer = data
        else:
            self._buffer = found[1]
            self.on_body(found[0])

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail who waits."""
        self._fail(exc or Unexpected("the server closed a connection that waited for an answer"))

    def ask(self, request: bytes) -> asyncio.Future[bytes]:
        """Ask; returns a future of the body."""
        waiting = self._waiting = asyncio.get_running_loop().create_future()
        # Who asked may have gone when the connection ends.
        waiting.add_done_callback(lambda future: future.cancelled() or future.exception())
        self.transport.write(request)
        return waiting

    def _answer(self, body: bytes) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(body)

    def _fail(self, error: Exception) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)


async def connect_http(port: int, number: int = 0) -> HttpConnection:
    """Open a connection, from an address that follows from a client's number."""
    address = f"127.0.0.{1 + number // 2_000 % 8}"
    loop: Any = asyncio.get_running_loop()
    _, connection = await loop.create_connection(HttpConnection, "127.0.0.1", port, local_addr=(address, 0))
    return cast("HttpConnection", connection)
