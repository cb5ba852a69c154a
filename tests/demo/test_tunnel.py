"""The tunnel: what goes through it, and what being cut means."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from tests.support.waiting import DEADLINE_S
from waypost.demo.tunnel import Tunnel


@pytest_asyncio.fixture
async def tunnel() -> AsyncIterator[Tunnel]:
    """One to a server that sends back what it gets."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with Tunnel(server.sockets[0].getsockname()[1]) as tunnel:
        yield tunnel
    server.close()


async def through(tunnel: Tunnel) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(tunnel.url)
    return await asyncio.open_connection(parts.hostname, parts.port)


async def talk(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> bytes:
    reader, writer = connection
    writer.write(b"hello")
    async with asyncio.timeout(DEADLINE_S):
        return await reader.read(5)


async def test_passes_everything_on(tunnel: Tunnel) -> None:
    connection = await through(tunnel)
    assert await talk(connection) == b"hello"
    connection[1].close()


async def test_cut_resets_connections_old_and_new(tunnel: Tunnel) -> None:
    connection = await through(tunnel)
    assert await talk(connection) == b"hello"
    tunnel.cut()
    with pytest.raises(ConnectionResetError):
        await talk(connection)
    with pytest.raises(ConnectionResetError):
        await talk(await through(tunnel))


async def test_is_open_again(tunnel: Tunnel) -> None:
    entrance = tunnel.url
    tunnel.cut()
    tunnel.open()
    assert tunnel.url == entrance
    connection = await through(tunnel)
    assert await talk(connection) == b"hello"
    connection[1].close()


async def test_a_server_that_is_down_ends_the_connection() -> None:
    async with Tunnel(1) as tunnel:
        reader, writer = await through(tunnel)
        async with asyncio.timeout(DEADLINE_S):
            assert await reader.read() == b""
        writer.close()
