"""Engine.IO 4, "Close": what each side is told when the other one ends the session."""

from __future__ import annotations

import asyncio

import pytest

from tests.conformance.engineio.test_websocket import ended
from tests.conformance.site import Site, connected
from tests.support.raw import open_polling, open_websocket

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_client_closes_and_its_poll_gets_a_noop(site: Site) -> None:
    async with open_polling(site.port) as raw:
        sid = await connected(raw)
        pending = asyncio.create_task(raw.poll())
        await site.polled(raw.sid)
        answer = await raw.post(b"1")
        assert (answer.status, answer.body) == (200, b"ok")
        assert (await pending).body == b"6"
        assert (await raw.poll()).code == 1
        assert (await raw.post(b'42["say"]')).code == 1
        assert await site.reason(sid) == "transport close"


async def test_the_client_sends_and_closes_in_one_payload(site: Site) -> None:
    async with open_polling(site.port) as raw:
        sid = await connected(raw)
        assert (await raw.post(b"41\x1e1")).status == 200
        assert await site.reason(sid) == "client namespace disconnect"
        await site.connection_ends(raw.sid)


async def test_the_server_closes_and_a_pending_poll_gets_a_close(site: Site) -> None:
    async with open_polling(site.port) as raw:
        sid = await connected(raw)
        pending = asyncio.create_task(raw.poll())
        await site.polled(raw.sid)
        await site.sockets[sid].disconnect(close=True)
        assert (await pending).body == b"41"
        assert (await raw.poll()).body == b"1"
        assert (await raw.poll()).code == 1


async def test_the_server_closes_while_nobody_polls(site: Site) -> None:
    async with open_polling(site.port) as raw:
        sid = await connected(raw)
        await site.sockets[sid].emit("last")
        await site.sockets[sid].disconnect(close=True)
        assert (await raw.post(b'42["say"]')).status == 400
        assert (await raw.poll()).body == b'42["last"]\x1e41'
        assert (await raw.poll()).body == b"1"
        assert (await raw.poll()).code == 1


async def test_the_server_closes_a_websocket(site: Site) -> None:
    async with open_websocket(site.port) as raw:
        sid = await connected(raw)
        await site.sockets[sid].emit("last")
        await site.sockets[sid].disconnect(close=True)
        assert await raw.receive() == '42["last"]'
        assert await raw.receive() == "41"
        assert await ended(raw) == 1000
        await site.connection_ends(raw.sid)
