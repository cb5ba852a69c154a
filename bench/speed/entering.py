"""How a bare client comes in: WebSocket handshake, Engine.IO's open packet, Socket.IO's CONNECT."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any, Protocol, cast

from bench.speed.frames import client_frame, payload_bounds

__all__ = ["Entry", "Taker", "enter", "enter_all", "handshake_request", "leave"]

_HANDSHAKE = (
    "GET /socket.io/?EIO=4&transport=websocket{session} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\n"
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: d2F5cG9zdC1iZW5jaC0tMQ==\r\n\r\n"
)
_AT_ONCE = 64
_CLIENTS_PER_ADDRESS = 2_000
_LIMIT_S = 60.0


def handshake_request(port: int, sid: str = "") -> bytes:
    """Ask for a WebSocket; with a session's id, for one that it is upgraded to."""
    return _HANDSHAKE.format(port=port, session=f"&sid={sid}" if sid else "").encode()


class Taker(Protocol):
    """What goes on with a connection that is in."""

    def begin(self, transport: asyncio.Transport) -> None:
        """Have the connection."""
        ...

    def data_received(self, data: bytes) -> None:
        """Take what comes."""
        ...


class Entry(asyncio.Protocol):
    """A connection until it is in.

    Args:
        port: The server's.
        auth: What CONNECT carries.

    Attributes:
        answer: The payload of the server's CONNECT, when it is in.
    """

    def __init__(self, port: int, auth: dict[str, Any]) -> None:
        self.answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport
        self._request = handshake_request(port)
        self._connect = client_frame("40" + json.dumps(auth, separators=(",", ":")))
        self._buffer = b""
        self._early = b""
        self._is_upgraded = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Take a step."""
        self._buffer += data
        if not self._is_upgraded:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            if b" 101 " not in head:
                self._fail(head.decode("latin-1"))
                return
            self._is_upgraded, self._buffer = True, rest
        while not self.answer.done():
            start, stop = payload_bounds(self._buffer, 0)
            if not start or stop > len(self._buffer):
                return
            frame, self._buffer = self._buffer[:stop], self._buffer[stop:]
            self._take(frame[start:], frame)

    def _take(self, payload: bytes, frame: bytes) -> None:
        if payload[:1] == b"0":
            self.transport.write(self._connect)
        elif payload[:2] == b"40":
            self.answer.set_result(json.loads(payload[2:]))
        elif payload[:2] == b"42":
            # Node replays what was missed before it lets in.
            self._early += frame
        else:
            self._fail(repr(payload[:200]))

    def _fail(self, why: str) -> None:
        if not self.answer.done():
            self.answer.set_exception(RuntimeError(f"a client was not let in: {why}"))
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail whoever waits."""
        if not self.answer.done():
            self.answer.set_exception(exc or ConnectionError("the server closed a connection that was coming in"))

    def hand_over(self, taker: Taker) -> None:
        """Let another have the connection, and what has come already."""
        self.transport.set_protocol(cast("asyncio.Protocol", taker))
        taker.begin(self.transport)
        if self._early or self._buffer:
            taker.data_received(self._early + self._buffer)


async def enter(port: int, auth: dict[str, Any], number: int = 0) -> Entry:
    """Come in as client number so-and-so, whose address follows from that; returns the connection."""
    address = f"127.0.0.{1 + number // _CLIENTS_PER_ADDRESS}"
    loop = asyncio.get_running_loop()
    _, entry = await loop.create_connection(
        lambda: Entry(port, {"token": "bench", **auth}), "127.0.0.1", port, local_addr=(address, 0)
    )
    async with asyncio.timeout(_LIMIT_S):
        await entry.answer
    return entry


async def enter_all(port: int, auths: list[dict[str, Any]], takers: list[Any]) -> list[Entry]:
    """Bring many in, some at a time; each is handed to its taker."""
    waiting = iter(range(len(takers)))
    entries: list[Any] = [None] * len(takers)

    async def usher() -> None:
        for number in waiting:
            entry = entries[number] = await enter(port, auths[number], number)
            entry.hand_over(takers[number])

    async with asyncio.TaskGroup() as group:
        for _ in range(min(_AT_ONCE, len(takers))):
            group.create_task(usher())
    return entries


def leave(transport: asyncio.Transport) -> None:
    """Cut a connection so that its port is free again at once: with a reset."""
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    transport.abort()
