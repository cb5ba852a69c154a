"""What the runner's HTTP and WebSocket do with headers and fragments without end, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import uvicorn
from websockets.asyncio.client import connect

import waypost
from tests.server.model_client import hub_of
from tests.support.raw import (
    WAIT_S,
    exchange,
    join,
    open_polling,
    open_websocket,
    parse,
    request,
    request_bytes,
    target,
)
from waypost.transports import uvicorn_protocols
from waypost.transports.uvicorn_runner import bind, configure

_LIMIT = 65_536


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def port() -> AsyncIterator[int]:
    """The port of a server in this process, with little patience."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uvicorn_protocols, "_HEADERS_TIMEOUT_S", 0.2)
        async with served() as port:
            yield port


@contextlib.asynccontextmanager
async def served() -> AsyncIterator[int]:
    io = waypost.Server(drain_s=0.0)
    io.on("size", lambda socket, text: len(text))
    listeners = bind("127.0.0.1", 0)
    server = uvicorn.Server(configure(io, io.options))
    serving = asyncio.create_task(server.serve(listeners))
    while not server.started:
        await asyncio.sleep(0.01)
    yield int(listeners[0].getsockname()[1])
    for connection in hub_of(io).engine.connections():
        connection.abort("the test is over")
    server.should_exit = True
    await serving
    for listener in listeners:
        listener.close()


@pytest.mark.parametrize(
    "headers",
    [
        b"X: " + b"x" * 2 * _LIMIT,
        b"X" * 2 * _LIMIT,
        b"X: y\r\n" * 20_000,
        b"".join(b"X-%d: y\r\n" % number for number in range(10_000)),
        b"Cookie: " + b"a=b; " * 20_000 + b"\r\n\r\n",
    ],
    ids=["a value", "a name", "the same header", "many headers", "a whole request"],
)
@pytest.mark.parametrize(
    "upgrade", [b"", b"Connection: Upgrade\r\nUpgrade: websocket\r\n"], ids=["http", "websocket"]
)
async def test_headers_without_end(port: int, upgrade: bytes, headers: bytes) -> None:
    head = b"GET %s HTTP/1.1\r\nHost: x\r\n" % target().encode()
    assert parse(await exchange(port, head + upgrade + headers)).status == 431
    assert (await request(port, "GET", target())).status == 200


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [b"G"],
        [b"GET / HTTP/1.1\r\n"],
        [b"GET / HTTP/1.1\r\nHost: x\r\n"] + [b"X: y\r\n"] * 50,
        [request_bytes("GET", "/", {"Connection": "keep-alive"}), b"GET / HT"],
    ],
    ids=["nothing", "a byte", "a line", "a header now and then", "a second request"],
)
async def test_headers_that_trickle(port: int, parts: list[bytes]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    reading = asyncio.create_task(reader.read())
    with contextlib.suppress(ConnectionError):
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.02)
    # A reset is an end, too: it comes if the server closed on something unread.
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(WAIT_S):
            await reading
    writer.close()


async def test_a_large_body_beside_its_headers_is_no_large_header(port: int) -> None:
    async with open_polling(port) as raw:
        await join(raw)
        await raw.send('421["size","' + "x" * 500_000 + '"]')
        assert await raw.receive() == "431[500000]"


async def test_a_large_body_that_comes_after_its_answer_is_no_large_header(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Less than one read of the network.
    monkeypatch.setattr(uvicorn_protocols, "_MAX_HEADER_BYTES", 10_000)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = b"x" * 100_000
    lines = {"Connection": "keep-alive", "Content-Length": str(len(body))}
    writer.write(request_bytes("POST", target(sid="nobodys"), lines))
    async with asyncio.timeout(WAIT_S):
        assert b" 400 " in await reader.readuntil(b'unknown"}')
        writer.write(body)
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(request_bytes("GET", target()))
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
    writer.close()


async def test_requests_may_take_their_time_once_they_are_complete(port: int) -> None:
    async with open_polling(port) as raw:
        await join(raw)
        poll = asyncio.create_task(raw.poll())
        await asyncio.sleep(0.5)
        await raw.send('421["size","x"]')
        assert (await poll).body == b"431[1]"


@pytest.mark.parametrize("size", [0, 1])
async def test_fragments_without_end(port: int, size: int) -> None:
    async with open_websocket(port) as raw:
        await join(raw)
        mask = bytes(4)
        fragment = b"\x00" + bytes([0x80 | size]) + mask + b"x" * size
        raw.connection.transport.write(b"\x01\x80" + mask + fragment * 20_000)
        async with asyncio.timeout(WAIT_S):
            await raw.connection.wait_closed()
        assert raw.connection.close_code == 1009
    assert (await request(port, "GET", target())).status == 200


async def test_a_message_in_many_fragments_is_taken(port: int) -> None:
    async with open_websocket(port) as raw:
        await join(raw)
        text = '421["size","' + "x" * 10_000 + '"]'
        await raw.connection.send(iter(text))
        assert await raw.receive() == "431[10000]"


async def test_websockets_are_not_compressed(port: int) -> None:
    url = f"ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket"
    async with connect(url, compression="deflate") as websocket:
        assert websocket.response is not None
        assert "Sec-WebSocket-Extensions" not in websocket.response.headers
        assert websocket.protocol.extensions == []
