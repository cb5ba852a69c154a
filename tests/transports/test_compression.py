"""Compressed WebSocket messages are not agreed to, however Waypost is served; where they are, all limits hold."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvicorn
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

import waypost
from tests.server.model_client import hub_of
from tests.support.raw import WAIT_S, join, open_websocket, target
from tests.support.server_process import ServerProcess
from tests.support.waiting import until
from tests.transports.direct_site import serving
from waypost.transports.uvicorn_runner import bind, configure

pytestmark = pytest.mark.asyncio

_BOMB = '42["nobody",' + "[" + ",".join(["[]"] * 300_000) + "]]"


@contextlib.asynccontextmanager
async def asking(port: int) -> AsyncIterator[ClientConnection]:
    """Open a WebSocket of Engine.IO that asks for compression."""
    url = f"ws://127.0.0.1:{port}{target(transport='websocket')}"
    async with connect(url, compression="deflate", ping_interval=None, max_size=None) as websocket:
        yield websocket


def is_compressed(connection: ClientConnection) -> bool:
    assert connection.response is not None
    return "Sec-WebSocket-Extensions" in connection.response.headers


_UVICORN = {
    "plain": ("-m", "uvicorn", "tests.interop.app:io", "--port", "{port}"),
    "fast path": ("-m", "uvicorn", "tests.interop.app:io", "--port", "{port}", "--ws", "waypost:DirectWebSocket"),
    "wsproto": ("-m", "uvicorn", "tests.interop.app:io", "--port", "{port}", "--ws", "wsproto"),
    "waypost serve": ("-m", "waypost", "serve", "tests.interop.app:io", "--port", "{port}"),
}


@pytest.mark.parametrize("way", _UVICORN)
async def test_it_is_not_agreed_to(way: str, tmp_path: Path) -> None:
    server = ServerProcess(_UVICORN[way], tmp_path / "server.log")
    server.stop_code = -15 if "uvicorn" in _UVICORN[way] else 0
    await server.start()
    try:
        for _ in range(2):
            async with asking(server.port) as connection:
                assert not is_compressed(connection)
                assert str(await connection.recv()).startswith("0{")
        warnings = [line for line in server.log().splitlines() if "websocket_compression=True" in line]
        assert len(warnings) == (0 if way == "waypost serve" else 1)
    finally:
        await server.stop()


async def test_it_is_not_agreed_to_where_nobody_saw_the_start() -> None:
    async with serving(ws_per_message_deflate=True) as site, asking(site.port) as connection:
        assert not is_compressed(connection)


@contextlib.asynccontextmanager
async def compressing() -> AsyncIterator[tuple[int, waypost.Server]]:
    io = waypost.Server(drain_s=0.0, recovery=None, websocket_compression=True)
    io.on("echo", lambda socket, value: value)
    listeners = bind("127.0.0.1", 0)
    server = uvicorn.Server(configure(io, io.options))
    running = asyncio.create_task(server.serve(listeners))
    await until(lambda: server.started, "uvicorn has started")
    yield int(listeners[0].getsockname()[1]), io
    for connection in hub_of(io).engine.connections():
        connection.abort("the test is over")
    server.should_exit = True
    await running
    for listener in listeners:
        listener.close()


async def test_where_it_is_allowed_it_is_used() -> None:
    async with compressing() as (port, _), asking(port) as connection:
        assert is_compressed(connection)
        await connection.recv()
        await connection.send("40")
        await connection.recv()
        text = "x" * 500_000
        for number in range(5):
            await connection.send(f'42{number}["echo",{json.dumps(text)}]')
        answers = [await connection.recv() for _ in range(5)]
        assert answers == [f"43{number}[{json.dumps(text)}]" for number in range(5)]


async def test_what_is_inflated_counts() -> None:
    async with compressing() as (port, io), asking(port) as connection:
        await connection.recv()
        await connection.send('40{"x":"' + "x" * io.options.max_payload_bytes + '"}')
        with pytest.raises(ConnectionClosed) as closed:
            async with asyncio.timeout(WAIT_S):
                await connection.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009


async def test_bombs_are_taken_one_at_a_time_and_others_are_served() -> None:
    async with compressing() as (port, io), asking(port) as connection, open_websocket(port) as other:
        await connection.recv()
        await connection.send("40")
        await connection.recv()
        await join(other)
        largest = 0
        assert len(_BOMB) < io.options.max_payload_bytes

        def waiting() -> int:
            tasks = [task for task in asyncio.all_tasks() if "run_asgi" in repr(task.get_coro())]
            frames = [task.get_coro().cr_frame for task in tasks]  # type: ignore[union-attr]
            queues = [frame.f_locals["self"].queue.qsize() for frame in frames if frame is not None]
            return max(queues, default=0)

        bombs = asyncio.create_task(_send(connection, 30))
        for number in range(10):
            await other.send(f'42{number}["echo",{number}]')
            async with asyncio.timeout(WAIT_S):
                assert await other.receive() == f"43{number}[{number}]"
            largest = max(largest, waiting())
        await bombs
        # One that the application has not taken yet; and one more, if two fit into a piece.
        assert largest <= 2


async def _send(connection: ClientConnection, count: int) -> None:
    for _ in range(count):
        await connection.send(_BOMB)
