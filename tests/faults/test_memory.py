"""What handshakes leave behind: ten waves of large ones cost no more than the first three."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.raw import WAIT_S, exchange, parse, request_bytes, target
from tests.support.server_process import ServerProcess
from tests.transports.test_direct_websocket import KEY

pytestmark = pytest.mark.asyncio

_WAVES = 10
_WAVE = 600
_TOGETHER = 50
_MOST_GROWTH = 1.05

# Kept: the largest that is. Refused: what once cost 1.5 MiB each.
_KEPT = "&".join(f"{number:x}={'x' * 58}" for number in range(240))
_KEPT_HEADERS = {f"X-{number}": "x" * 320 for number in range(90)}
_REFUSED = "&".join(f"{number:x}=" for number in range(10_000))


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    server = ServerProcess.waypost(tmp_path / "server.log")
    await server.start()
    yield server
    await server.stop()


async def refused(port: int) -> None:
    answer = parse(await exchange(port, request_bytes("GET", f"{target()}&{_REFUSED}")))
    assert answer.status == 414


async def polls(port: int) -> None:
    answer = parse(await exchange(port, request_bytes("GET", f"{target()}&{_KEPT}", _KEPT_HEADERS)))
    assert answer.status == 200
    sid = answer.body.split(b'"sid":"')[1].split(b'"')[0].decode()
    assert parse(await exchange(port, request_bytes("POST", target(sid=sid), body=b"1"))).status == 200


async def opens_a_websocket(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": KEY,
        **_KEPT_HEADERS,
    }
    writer.write(request_bytes("GET", f"{target(transport='websocket')}&{_KEPT}", headers))
    async with asyncio.timeout(WAIT_S):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    writer.transport.abort()


async def test_waves_of_large_handshakes_leave_nothing_behind(server: ServerProcess) -> None:
    after: list[int] = []
    turns = asyncio.Semaphore(_TOGETHER)

    async def one(number: int) -> None:
        async with turns:
            await (refused, polls, opens_a_websocket)[number % 3](server.port)

    for _ in range(_WAVES):
        await asyncio.gather(*(one(number) for number in range(_WAVE)))
        after.append(server.memory_bytes())
    assert after[-1] <= _MOST_GROWTH * after[2], [size >> 10 for size in after]
