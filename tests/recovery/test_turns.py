"""Crowds that recover and read nothing: how long an honest client then waits for the answer to its CONNECT."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.raw import request_bytes, target
from tests.support.server_process import ServerProcess

pytestmark = [pytest.mark.long, pytest.mark.asyncio, pytest.mark.timeout(400)]

logger = logging.getLogger(__name__)

HONEST = 50
MISSED = 64
SIZE = 80_000
"""More than the kernel takes from the server for a client that reads nothing."""
MOST_S = 1.0
ROOM = "news"


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    server = ServerProcess.waypost(tmp_path / "server.log")
    await server.start()
    yield server
    await server.stop()


@dataclass
class Seat:
    """What a client comes back with."""

    pid: str
    offset: str


class Line:
    """A WebSocket, written and read by hand: thousands of them must cost the test little."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Line:
        bare = socket.socket()
        bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        bare.setblocking(False)
        await asyncio.get_running_loop().sock_connect(bare, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=bare, limit=4_096)
        headers = {
            "User-Agent": "a client of its own kind",  # without one these headers are those of Rust's client
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": b64encode(os.urandom(16)).decode(),
        }
        writer.write(request_bytes("GET", target(transport="websocket"), headers))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        return cls(reader, writer)

    def send(self, text: str) -> None:
        payload = text.encode()
        head = bytes((0x81, 0x80 | len(payload))) if len(payload) < 126 else b"\x81\xff" + len(payload).to_bytes(8)
        self._writer.write(head + bytes(4) + payload)

    async def receive(self) -> str:
        head = await self._reader.readexactly(2)
        size = head[1]
        if size >= 126:
            size = int.from_bytes(await self._reader.readexactly(2 if size == 126 else 8))
        return (await self._reader.readexactly(size)).decode()

    async def wait_for(self, start: str) -> str:
        while not (text := await self.receive()).startswith(start):
            pass
        return text

    async def cut(self) -> None:
        self._writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


async def take_a_seat(port: int) -> Seat:
    line = await Line.open(port)
    line.send("40" + json.dumps({"rooms": [ROOM]}))
    answer = json.loads((await line.wait_for("40"))[2:])
    line.send(f'42["publish","{answer["sid"]}","hello"]')
    event = json.loads((await line.wait_for("42"))[2:])
    await line.cut()
    return Seat(answer["pid"], event[-1])


async def come_back(port: int, seat: Seat) -> Line:
    line = await Line.open(port)
    line.send("40" + json.dumps({"pid": seat.pid, "offset": seat.offset}))
    return line


async def measure(port: int, seat: Seat) -> float:
    began = time.perf_counter()
    line = await come_back(port, seat)
    answer = json.loads((await line.wait_for("40"))[2:])
    waited_s = time.perf_counter() - began
    assert answer["pid"] == seat.pid
    await line.cut()
    return waited_s


@pytest.mark.parametrize("crowd", [300, 700, 2_000])
async def test_an_honest_client_does_not_wait_for_those_that_read_nothing(server: ServerProcess, crowd: int) -> None:
    few = asyncio.Semaphore(20)

    async def sit() -> Seat:
        async with few:
            return await take_a_seat(server.port)

    seats = await asyncio.gather(*(sit() for _ in range(crowd + HONEST)))
    speaker = await Line.open(server.port)
    speaker.send("40")
    await speaker.wait_for("40")
    for _ in range(MISSED):
        speaker.send(f'42["publish","{ROOM}","{"x" * SIZE}"]')
    speaker.send('420["echo",1]')
    await speaker.wait_for("430")
    await speaker.cut()
    async with AsyncExitStack() as stack:
        for seat in seats[HONEST:]:
            stack.push_async_callback((await come_back(server.port, seat)).cut)
        waited = sorted([await measure(server.port, seat) for seat in seats[:HONEST]])
    logger.info("%d clients read nothing: p50 %.3f s, most %.3f s", crowd, waited[HONEST // 2], waited[-1])
    assert waited[-1] < MOST_S
