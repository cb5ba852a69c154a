"""The wire of a recorded client: bare sockets that write what its sources write, over each of its transports."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol

from tests.clients.recorded import Writing
from tests.support.waiting import DEADLINE_S

__all__ = ["TRANSPORTS", "Wire", "open_wire", "transports_of"]

TRANSPORTS = ("polling", "websocket", "upgrade")
_MASK = b"\x01\x02\x03\x04"
_TEXT, _BINARY, _CLOSE = 1, 2, 8


def transports_of(client: Writing) -> tuple[str, ...]:
    """Return the transports that a client has; .NET's upgrade is a second session."""
    if not client.polling:
        return ("websocket",)
    return TRANSPORTS if "{sid}" in client.websocket else ("polling", "websocket")


class Wire(Protocol):
    """A client's connection. Heartbeats are answered while it is read."""

    pings: int

    async def send(self, *frames: str | bytes) -> None:
        """Send the frames of one packet."""

    async def receive(self) -> str | bytes:
        """Return the next frame that is no heartbeat."""


class _Connection:
    """An HTTP/1.1 connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self.reader, self.writer, self.host = reader, writer, host

    async def ask(self, head: str, body: bytes = b"", sid: str = "") -> bytes:
        """Send a request and return the response's body; the status must be 200 or 101."""
        values = {"host": self.host, "length": str(len(body)), "sid": f"&sid={sid}" if sid else ""}
        for name, value in values.items():
            head = head.replace(f"{{{name}}}", value)
        self.writer.write(head.encode() + body)
        answer = await self.reader.readuntil(b"\r\n\r\n")
        status, *lines = answer.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        content = await self.reader.readexactly(int(headers.get("content-length", "0")))
        assert status.split()[1] in ("200", "101"), (answer, content)
        return content


class _Polling:
    def __init__(self, client: Writing, polls: _Connection, posts: _Connection, sid: str) -> None:
        self.pings = 0
        self.sid = sid
        self._client = client
        self._polls = polls
        self._posts = posts
        self._frames: list[str] = []

    async def send(self, *frames: str | bytes) -> None:
        texts = [f"b{base64.b64encode(one).decode()}" if isinstance(one, bytes) else one for one in frames]
        bodies = [texts] if self._client.batches else [part for part in (texts[:1], texts[1:]) if part]
        for body in bodies:
            assert await self._posts.ask(self._client.post, "\x1e".join(body).encode(), self.sid) == b"ok"

    async def poll(self) -> list[str]:
        body = await self._polls.ask(self._client.polling, sid=self.sid)
        return body.decode().split("\x1e")

    async def receive(self) -> str | bytes:
        while not self._frames:
            for frame in await self.poll():
                if frame == "2":
                    self.pings += 1
                    await self.send("3")
                elif frame != "6":
                    self._frames.append(frame)
        frame = self._frames.pop(0)
        return base64.b64decode(frame[1:]) if frame.startswith("b") else frame


class _WebSocket:
    def __init__(self, client: Writing, connection: _Connection) -> None:
        self.pings = 0
        self._client = client
        self._connection = connection

    async def send(self, *frames: str | bytes) -> None:
        for frame in frames:
            content, opcode = (frame, _BINARY) if isinstance(frame, bytes) else (frame.encode(), _TEXT)
            size = self._client.fragment_bytes or max(1, len(content))
            parts = [content[start : start + size] for start in range(0, len(content), size)] or [b""]
            for number, part in enumerate(parts):
                self._write(part, 0 if number else opcode, final=number == len(parts) - 1)

    def _write(self, part: bytes, opcode: int, *, final: bool) -> None:
        head = bytes([opcode | (0x80 if final else 0)])
        length = bytes([0x80 | len(part)]) if len(part) < 126 else b"\xfe" + len(part).to_bytes(2, "big")
        masked = bytes(byte ^ _MASK[at % 4] for at, byte in enumerate(part))
        self._connection.writer.write(head + length + _MASK + masked)

    async def receive(self) -> str | bytes:
        while True:
            frame = await self._read()
            if frame != "2":
                return frame
            self.pings += 1
            await self.send("3")

    async def _read(self) -> str | bytes:
        read = self._connection.reader.readexactly
        first, second = await read(2)
        assert first & 0xF0 == 0x80, "whole and without extensions: what these clients are told, they agreed to"
        assert first & 0x0F != _CLOSE, "the server closed"
        length = second if second < 126 else int.from_bytes(await read(2 if second == 126 else 8), "big")
        content = await read(length)
        return content.decode() if first & 0x0F == _TEXT else content


async def _upgrade(client: Writing, polling: _Polling, connection: _Connection) -> _WebSocket:
    """Move a session as Swift does: its poll goes on until the server ends it with a noop."""
    await connection.ask(client.websocket, sid=polling.sid)
    websocket = _WebSocket(client, connection)
    await websocket.send("2probe")
    poll = asyncio.create_task(polling.poll())
    while (frame := await websocket.receive()) != "3probe":
        raise AssertionError(frame)
    assert set(await poll) <= {"6", "2"}
    await websocket.send("5")
    return websocket


@asynccontextmanager
async def open_wire(client: Writing, transport: str, port: int) -> AsyncIterator[Wire]:
    """Open a session as a client does; its TCP connections end with the block."""
    async with AsyncExitStack() as stack:

        async def connect() -> _Connection:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.transport.abort)
            return _Connection(reader, writer, f"127.0.0.1:{port}")

        async with asyncio.timeout(DEADLINE_S):
            if transport == "websocket":
                connection = await connect()
                await connection.ask(client.websocket)
                websocket = _WebSocket(client, connection)
                opened = await websocket.receive()
                assert str(opened).startswith("0{")
                yield websocket
                return
            polls = await connect()
            opened = (await polls.ask(client.polling)).decode()
            polling = _Polling(client, polls, await connect(), json.loads(opened[1:])["sid"])
            yield polling if transport == "polling" else await _upgrade(client, polling, await connect())
