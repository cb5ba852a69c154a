"""The upgrade of a polling session to a WebSocket, as the official client does it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, cast

from bench.speed.asking import Unexpected
from bench.speed.entering import handshake_request
from bench.speed.frames import client_frame, payload_bounds

__all__ = ["upgrade"]

_PROBE, _UPGRADE, _QUESTION = client_frame("2probe"), client_frame("5"), client_frame('421["ack",1]')
_LIMIT_S = 30.0


class _Upgrading(asyncio.Protocol):
    """A WebSocket that gives one message after the other."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self._buffer = b""
        self._is_upgraded = False
        self._is_lost = False
        self._came = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._came.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        self._came.set()

    async def expect(self, wanted: bytes) -> None:
        """Wait for a message, or for the handshake's answer first of all."""
        while (got := self._next()) is None:
            if self._is_lost:
                raise Unexpected("the server closed a WebSocket that upgraded")
            self._came.clear()
            await self._came.wait()
        if not got.startswith(wanted):
            raise Unexpected(f"expected {wanted!r} in an upgrade, got {got[:200]!r}")

    def _next(self) -> bytes | None:
        if not self._is_upgraded:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return None
            self._is_upgraded, self._buffer = True, rest
            return head
        start, stop = payload_bounds(self._buffer, 0)
        if not start or stop > len(self._buffer):
            return None
        message, self._buffer = self._buffer[start:stop], self._buffer[stop:]
        return message


async def upgrade(port: int, sid: str, poll: Awaitable[Any]) -> asyncio.Transport:
    """Upgrade a session, and prove it by an acknowledged event.

    Args:
        port: The server's.
        sid: The session.
        poll: The poll that is under way.

    Returns:
        The WebSocket's connection.
    """
    loop = asyncio.get_running_loop()
    transport, websocket = await loop.create_connection(_Upgrading, "127.0.0.1", port)
    transport.write(handshake_request(port, sid))
    async with asyncio.timeout(_LIMIT_S):
        await websocket.expect(b"HTTP/1.1 101 ")
        transport.write(_PROBE)
        await websocket.expect(b"3probe")
        await poll
        transport.write(_UPGRADE + _QUESTION)
        await websocket.expect(b"431[1]")
    return websocket.transport
