"""Requests that a client sends ahead of the answers to those before them, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.raw import (
    WAIT_S,
    RawPolling,
    join,
    open_polling,
    open_websocket,
    request,
    request_bytes,
    target,
)
from tests.transports.direct_site import Site, serving
from tests.transports.test_direct_websocket import ask

pytestmark = pytest.mark.asyncio(loop_scope="module")

_WAITS_AT_MOST = 32


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[Site]:
    """A server in this process, as the command line serves it."""
    async with serving() as site:
        yield site


def kept(method: str, where: str, body: bytes | None = None) -> bytes:
    """Return a request after which the connection stays open."""
    return request_bytes(method, where, {"Connection": "keep-alive"}, body)


async def answers(reader: asyncio.StreamReader, count: int) -> bytes:
    """Read until so many good answers have come, or to the end; a reset is an end, too."""
    received = b""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(WAIT_S):
            while (not count or received.count(b"HTTP/1.1 200 ") < count) and (chunk := await reader.read(65_536)):
                received += chunk
    return received


async def others_are_served(port: int) -> None:
    async with open_websocket(port) as raw:
        await join(raw)
        await raw.send('421["echo","still"]')
        async with asyncio.timeout(WAIT_S):
            assert await raw.receive() == '431["still"]'


async def end(raw: RawPolling) -> None:
    await raw.post(b"1")


@pytest.mark.parametrize("posts", [10, *range(145, 180, 5), 300])
async def test_posts_behind_a_poll_that_waits(site: Site, posts: int) -> None:
    async with open_polling(site.port) as raw:
        await join(raw)
        where = target(sid=raw.sid)
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(kept("GET", where) + posts * kept("POST", where, b"6") + kept("POST", where, b'42["echo",1]'))
        await asyncio.sleep(0.05)
        # The answer to the poll is what lets those behind it go on.
        await raw.post(b'421["echo",2]')
        await others_are_served(site.port)
        expected = posts + 2 if posts < _WAITS_AT_MOST else 0
        received = await answers(reader, expected)
        assert received.count(b"HTTP/1.1 200 ") >= expected
        writer.close()
        await end(raw)
    await others_are_served(site.port)


async def test_posts_in_one_piece_are_answered_in_turns(site: Site) -> None:
    turns = 0
    ticking = True

    def tick() -> None:
        nonlocal turns
        turns += 1
        if ticking:
            asyncio.get_running_loop().call_soon(tick)

    async with open_polling(site.port) as raw:
        await join(raw)
        where = target(sid=raw.sid)
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        posts = 20
        tick()
        before = turns
        writer.write(posts * kept("POST", where, b"6"))
        assert (await answers(reader, posts)).count(b"HTTP/1.1 200 ") == posts
        ticking = False
        assert turns - before >= posts - 1
        writer.close()
        await end(raw)


async def test_the_client_goes_while_its_poll_waits_before_posts(site: Site) -> None:
    async with open_polling(site.port) as raw:
        await join(raw)
        where = target(sid=raw.sid)
        _, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(kept("GET", where) + 3 * kept("POST", where, b"6"))
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.transport.abort()
        assert await raw.closed()


async def test_an_upgrade_waits_for_the_answers_before_it(site: Site) -> None:
    async with open_polling(site.port) as raw:
        await join(raw)
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        upgrade = ask(target(transport="websocket"))
        writer.write(kept("GET", target(sid=raw.sid)) + upgrade)
        await asyncio.sleep(0.05)
        await raw.post(b'421["echo",2]')
        async with asyncio.timeout(WAIT_S):
            first = await reader.readuntil(b"431[2]")
            assert first.startswith(b"HTTP/1.1 200 ")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            assert (await reader.readexactly(1)) == b"\x81"
        writer.close()
        await end(raw)


async def test_what_comes_behind_an_upgrade_that_waits(site: Site) -> None:
    async with open_polling(site.port) as raw:
        await join(raw)
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(kept("GET", target(sid=raw.sid)) + ask(target(transport="websocket")))
        await asyncio.sleep(0.05)
        writer.write(kept("GET", target()))
        assert b" 101 " not in await answers(reader, 0)
        writer.close()
        await others_are_served(site.port)


@pytest.mark.parametrize(
    "line",
    [b"POST %s HTTP/1.1", b"GET %s HTTP/1.0", b"PUT %s HTTP/1.1"],
)
async def test_what_is_no_websocket_handshake(site: Site, line: bytes) -> None:
    handshake = ask(target(transport="websocket"))
    _, _, rest = handshake.partition(b"\r\n")
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(line % target(transport="websocket").encode() + b"\r\n" + rest)
    async with asyncio.timeout(WAIT_S):
        assert (await reader.readuntil(b"\r\n")).split()[1] == b"400"
    writer.close()
    assert (await request(site.port, "GET", target())).status == 200
