"""Every read of a request has a deadline, and every network connection counts for its address."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from uvicorn.server import ServerState

import waypost
from tests.server.model_client import hub_of
from tests.support.raw import PATH, WAIT_S, join, open_polling, open_websocket, request, target
from tests.support.waiting import until
from tests.transports.direct_site import Site, serving
from waypost.transports import asgi_websocket, uvicorn_protocols
from waypost.transports.uvicorn_protocols import GuardedHttp
from waypost.transports.uvicorn_runner import configure

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[Site]:
    """A server in this process, with little patience."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uvicorn_protocols, "_HEADERS_TIMEOUT_S", 0.3)
        patch.setattr(uvicorn_protocols, "_REST_TIMEOUT_S", 0.3)
        async with serving() as site:
            yield site


async def trickle(port: int, head: bytes, piece: bytes) -> bytes:
    """Send a request and then a piece of it now and then, until the server ends it; return what came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    writer.write(head)
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(WAIT_S):
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        chunk = await reader.read(65_536)
                        if not chunk:
                            break
                        received += chunk
                writer.write(piece)
    writer.close()
    return received


def post(where: str, method: str = "POST", length: int = 100_000) -> bytes:
    return f"{method} {where} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (post("/nothing/here"), b" 404 "),
        (post(target(sid="unknown")), b" 400 "),
        (post(target()), b" 400 "),
        (post(target(), "PUT"), b" 400 "),
        (post(f"{PATH}socket.io.js", "DELETE"), b" 40"),
    ],
    ids=["404", "unknown session", "no session", "wrong method", "file"],
)
async def test_a_body_that_trickles_after_a_refusal(site: Site, head: bytes, status: bytes) -> None:
    assert status in await trickle(site.port, head, b"x")
    assert (await request(site.port, "GET", target())).status == 200


async def test_blank_lines_between_requests(site: Site) -> None:
    answer = await trickle(site.port, b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", b"\r\n")
    assert b" 404 " in answer


async def test_a_refused_body_that_comes_leaves_the_connection_open(site: Site) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    async with asyncio.timeout(WAIT_S):
        writer.write(post(target(sid="unknown"), length=3))
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 400 ")
        writer.write(b"4ab")
        await asyncio.sleep(0.1)
        writer.write(post(target(sid="unknown"), length=0))
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 400 ")
    writer.close()


async def test_open_polls_and_websockets_outlast_all_that(site: Site) -> None:
    async with open_polling(site.port) as raw, open_websocket(site.port) as other:
        await join(raw)
        await join(other)
        poll = asyncio.create_task(raw.poll())
        await asyncio.sleep(0.8)
        assert not poll.done()
        await raw.send('421["echo",1]')
        assert (await poll).body == b"431[1]"
        await other.send('421["echo",2]')
        assert await other.receive() == "431[2]"


@pytest.mark.parametrize("protocol", ["websockets-sansio", "wsproto"])
async def test_a_websocket_that_reads_nothing_is_let_go(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi_websocket, "_CLOSE_TIMEOUT_S", 0.3)
    async with serving(http="auto", ws=protocol) as site:
        raw = socket.create_connection(("127.0.0.1", site.port))
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        head = f"GET {target(transport='websocket')} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
        keys = "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        raw.sendall((head + keys + "\r\n").encode())
        raw.setblocking(False)
        engine = hub_of(site.io).engine
        await until(lambda: len(engine) == 1, "its session is open")
        raw.sendall(_text(b"40"))
        echo = _text(b'421["echo","' + b"x" * 900_000 + b'"]')
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(WAIT_S):
                for _ in range(10):
                    await loop.sock_sendall(raw, echo)
        await until(lambda: len(engine) == 0, "its session has ended")
        assert site.server is not None
        connections = site.server.server_state.connections
        await until(lambda: not connections, "nothing is left of it")
        raw.close()


def _text(payload: bytes) -> bytes:
    """Return a frame of a client with a mask of zeros."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xff" + size.to_bytes(8, "big")
    return b"\x81" + length + b"\0\0\0\0" + payload


class Wire(asyncio.Transport):
    """A network connection from an address."""

    def __init__(self, address: str) -> None:
        super().__init__({"peername": (address, 1), "sockname": ("127.0.0.1", 80)})
        self.is_open = True

    def is_closing(self) -> bool:
        return not self.is_open

    def abort(self) -> None:
        self.is_open = False

    def close(self) -> None:
        self.is_open = False

    def write(self, data: Any) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def test_every_network_connection_counts_for_its_address() -> None:
    io = waypost.Server(max_connections_per_address=3, trusted_proxies=["203.0.113.200"])
    config = configure(io, io.options)
    config.load()
    state = ServerState()

    def connect(address: str) -> tuple[GuardedHttp, Wire]:
        protocol, wire = GuardedHttp(config, state, {}), Wire(address)
        protocol.connection_made(wire)
        return protocol, wire

    ends = [connect("203.0.113.7") for _ in range(4)]
    assert [wire.is_open for _, wire in ends] == [True, True, True, False]
    others = [connect(address) for address in ["203.0.113.8"] + ["203.0.113.200"] * 5 + ["127.0.0.1"] * 5]
    assert all(wire.is_open for _, wire in others)
    ends[3][0].connection_lost(None)
    ends[0][0].connection_lost(None)
    again = [connect("203.0.113.7") for _ in range(2)]
    assert [wire.is_open for _, wire in again] == [True, False]
    for protocol, _ in (*ends[1:3], *others, *again):
        protocol.connection_lost(None)
    await until(lambda: not state.connections, "all are gone")
    await io.close()
