"""Requests and packets that no proper client would send, over bare HTTP and bare WebSocket."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import ConnectionClosed

PATH = "/socket.io/"
WAIT_S = 15.0
_SEPARATOR = "\x1e"


@dataclass(frozen=True)
class Answer:
    """An HTTP response, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> int | None:
        """The number by which Engine.IO names an error, if the body has one."""
        try:
            code = json.loads(self.body)["code"]
        except (ValueError, KeyError, TypeError):
            return None
        return int(code)


def target(**query: str) -> str:
    """Return the request target of a polling request; keywords change or add to its query."""
    values = {"EIO": "4", "transport": "polling", **query}
    return PATH + "?" + "&".join(f"{name}={value}" for name, value in values.items())


def request_bytes(
    method: str, where: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> bytes:
    """Return an HTTP/1.1 request that asks for the connection to be closed after it."""
    lines = {"Host": "localhost", "Connection": "close"}
    if body is not None:
        lines["Content-Length"] = str(len(body))
    lines |= headers or {}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {where} HTTP/1.1\r\n{head}\r\n".encode() + (body or b"")


def chunked(body: bytes, size: int) -> bytes:
    """Return a body in HTTP's chunked encoding."""
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


async def exchange(port: int, raw: bytes) -> bytes:
    """Send bytes while reading, and return all that came back until the server closed or reset.

    A server may answer before it has read everything; asyncio's streams would forget that answer with the reset.
    """
    loop = asyncio.get_running_loop()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setblocking(False)
        sending = loop.create_task(loop.sock_sendall(connection, raw))
        received = b""
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(WAIT_S):
                while chunk := await loop.sock_recv(connection, 65536):
                    received += chunk
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        return received


def reset(port: int, raw: bytes) -> None:
    """Send bytes and reset the connection at once, without reading what comes back."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(raw)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def request(
    port: int,
    method: str,
    where: str,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> Answer:
    """Make one HTTP request."""
    return parse(await exchange(port, request_bytes(method, where, headers, body)))


def parse(raw: bytes) -> Answer:
    """Read a response whose body ends with the connection or has a length."""
    if not raw:
        raise ConnectionResetError("the connection ended without an answer")
    head, _, body = raw.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        body = _dechunk(body)
    return Answer(int(status.split()[1]), headers, body)


class Raw(Protocol):
    """An Engine.IO connection whose packets a test writes itself."""

    sid: str

    async def send(self, *packets: str | bytes) -> None:
        """Send packets, text ones with their type digit, as soon and as close together as can be."""

    async def receive(self) -> str | bytes:
        """Return the next packet that is no heartbeat; ``EOFError`` when the server has closed."""

    async def closed(self) -> bool:
        """Wait for the server to close, and tell whether it did; a heartbeat is no close."""


class RawPolling:
    """A polling session."""

    def __init__(self, port: int, opened: Mapping[str, Any]) -> None:
        self.port = port
        self.opened = opened
        self.sid = str(opened["sid"])
        self._packets: list[str | bytes] = []

    async def poll(self) -> Answer:
        return await request(self.port, "GET", target(sid=self.sid))

    async def post(self, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        types = {"Content-Type": "text/plain;charset=UTF-8"}
        return await request(self.port, "POST", target(sid=self.sid), {**types, **(headers or {})}, body)

    async def send(self, *packets: str | bytes) -> None:
        texts = [
            "b" + base64.b64encode(packet).decode() if isinstance(packet, bytes) else packet for packet in packets
        ]
        answer = await self.post(_SEPARATOR.join(texts).encode())
        assert answer.status in (200, 400), answer

    async def receive(self) -> str | bytes:
        while not self._packets:
            answer = await self.poll()
            if answer.status != 200:
                raise EOFError(answer)
            texts = answer.body.decode().split(_SEPARATOR)
            self._packets = [
                base64.b64decode(text[1:]) if text.startswith("b") else text
                for text in texts
                if text not in ("2", "6")
            ]
            if "2" in texts:
                await self.post(b"3")
        packet = self._packets.pop(0)
        if packet == "1":
            raise EOFError(packet)
        return packet

    async def closed(self) -> bool:
        return await _closed(self)


class RawWebSocket:
    """A WebSocket session."""

    def __init__(self, connection: ClientConnection, opened: Mapping[str, Any]) -> None:
        self.connection = connection
        self.opened = opened
        self.sid = str(opened.get("sid"))

    async def send(self, *packets: str | bytes) -> None:
        try:
            for packet in packets:
                await self.connection.send(packet)
        except ConnectionClosed:
            pass  # the server has closed before the last of them

    async def receive(self) -> str | bytes:
        while True:
            try:
                packet = await self.connection.recv()
            except ConnectionClosed as error:
                raise EOFError(error) from error
            if packet == "2":
                await self.send("3")
            elif packet == "1":
                raise EOFError(packet)
            else:
                return packet

    async def closed(self) -> bool:
        return await _closed(self)


@asynccontextmanager
async def open_polling(port: int) -> AsyncIterator[RawPolling]:
    """Open a polling session; it is left to the server's care."""
    answer = await request(port, "GET", target())
    assert answer.status == 200, answer
    yield RawPolling(port, json.loads(answer.body[1:]))


@asynccontextmanager
async def open_websocket(port: int) -> AsyncIterator[RawWebSocket]:
    """Open a WebSocket session; its TCP connection ends with the block, without a goodbye."""
    async with websocket(port) as connection:
        opened = await connection.recv()
        assert isinstance(opened, str)
        yield RawWebSocket(connection, json.loads(opened[1:]))


@asynccontextmanager
async def websocket(
    port: int, query: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
) -> AsyncIterator[ClientConnection]:
    """Make a bare WebSocket connection; ``query`` changes or adds to the usual one."""
    uri = f"ws://127.0.0.1:{port}" + target(**{"transport": "websocket", **(query or {})})
    connection = await connect_websocket(
        uri, additional_headers=headers, compression=None, ping_interval=None, max_size=None, proxy=None
    )
    try:
        yield connection
    finally:
        connection.transport.abort()
        await connection.wait_closed()


async def join(raw: Raw, namespace: str = "") -> None:
    """Connect a raw session to a namespace, the main one unless told otherwise."""
    await raw.send(f"40{namespace}")
    packet = await raw.receive()
    assert isinstance(packet, str)
    assert packet.startswith("40")


OPENERS: dict[str, Callable[[int], AbstractAsyncContextManager[Raw]]] = {
    "polling": open_polling,
    "websocket": open_websocket,
}


async def _closed(raw: Raw) -> bool:
    try:
        async with asyncio.timeout(WAIT_S):
            while True:
                await raw.receive()
    except EOFError:
        return True
    except TimeoutError:
        return False


def _dechunk(body: bytes) -> bytes:
    parts: list[bytes] = []
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        parts.append(rest[:length])
        body = rest[length + 2 :]
    return b"".join(parts)
