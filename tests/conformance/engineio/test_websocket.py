"""Engine.IO 4, "WebSocket": each packet is one frame, and binary ones carry no type."""

from __future__ import annotations

import asyncio

import pytest
from websockets.exceptions import ConnectionClosed

from tests.conformance.site import Site, connected
from tests.support.raw import WAIT_S, RawWebSocket, join, open_websocket

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT = 20_000
SERVER_OPTIONS = {"max_payload_bytes": LIMIT}


async def test_text(site: Site) -> None:
    async with open_websocket(site.port) as raw:
        await join(raw)
        await raw.send('42["say","héllo €😀"]')
        assert await raw.receive() == '42["said","héllo €😀"]'


async def test_binary_frames_carry_the_bare_bytes(site: Site) -> None:
    async with open_websocket(site.port) as raw:
        await join(raw)
        placeholder = '{"_placeholder":true,"num":0}'
        await raw.send(f'451-["say",{placeholder}]', bytes(range(256)))
        assert await raw.receive() == f'451-["said",{placeholder}]'
        assert await raw.receive() == bytes(range(256))


async def test_a_noop_from_the_client_is_ignored(site: Site) -> None:
    async with open_websocket(site.port) as raw:
        await join(raw)
        await raw.send("6", '42["say"]')
        assert await raw.receive() == '42["said"]'


async def test_a_close_packet_ends_the_connection(site: Site) -> None:
    async with open_websocket(site.port) as raw:
        sid = await connected(raw)
        await raw.send("1")
        await ended(raw)
        assert await site.reason(sid) == "transport close"


async def test_a_close_of_the_websocket(site: Site) -> None:
    async with open_websocket(site.port) as raw:
        sid = await connected(raw)
        await raw.connection.close()
        assert await site.reason(sid) == "transport close"


BAD_FRAMES = ["", "abc", "7", '0{"sid":"x"}', "5", "3probe", "b!!!", "bAQID"]


@pytest.mark.parametrize("frame", BAD_FRAMES)
async def test_a_bad_frame_ends_the_connection(site: Site, frame: str) -> None:
    async with open_websocket(site.port) as raw:
        sid = await connected(raw)
        await raw.send(frame)
        await ended(raw)
        assert await site.reason(sid) == "parse error"


async def test_a_message_at_the_limit(site: Site) -> None:
    async with open_websocket(site.port) as raw:
        await join(raw)
        text = "x" * (LIMIT - len('42["say",""]'))
        await raw.send(f'42["say","{text}"]')
        assert await raw.receive() == f'42["said","{text}"]'


@pytest.mark.parametrize("message", ["4" + "x" * LIMIT, "4" + "é" * (LIMIT // 2), b"\x00" * (LIMIT + 1)])
async def test_a_message_over_the_limit(site: Site, message: str | bytes) -> None:
    async with open_websocket(site.port) as raw:
        await join(raw)
        await raw.send(message)
        assert await ended(raw) == 1009


async def ended(raw: RawWebSocket) -> int | None:
    """Wait for the server to close, whatever it still sends; returns the code it closes with."""
    async with asyncio.timeout(WAIT_S):
        try:
            while True:
                await raw.connection.recv()
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None
