"""Engine.IO 4, "Heartbeat": the server pings, the client answers in time."""

from __future__ import annotations

import asyncio

import pytest

from tests.conformance.engineio.test_upgrade import probing
from tests.conformance.site import Site, connected
from tests.support.raw import OPENERS, RawWebSocket, open_polling, open_websocket
from tests.support.waiting import DEADLINE_S

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVER_OPTIONS = {"ping_interval_s": 0.2, "ping_timeout_s": 0.4}


async def test_pings_over_polling(site: Site) -> None:
    async with open_polling(site.port) as raw:
        await connected(raw)
        for _ in range(3):
            assert (await raw.poll()).body == b"2"
            assert (await raw.post(b"3")).status == 200


async def test_pings_over_websocket(site: Site) -> None:
    async with open_websocket(site.port) as raw:
        await connected(raw)
        for _ in range(3):
            assert await raw.connection.recv() == "2"
            await raw.send("3")


async def test_no_pong_over_polling(site: Site) -> None:
    async with open_polling(site.port) as raw:
        sid = await connected(raw)
        assert (await raw.poll()).body == b"2"
        pending = await raw.poll()
        assert (pending.status, pending.body) == (200, b"1")
        assert await site.reason(sid) == "ping timeout"
        assert (await raw.poll()).code == 1


async def test_nobody_polls(site: Site) -> None:
    async with open_polling(site.port) as raw:
        sid = await connected(raw)
        assert await site.reason(sid) == "ping timeout"
        assert (await raw.poll()).code == 1


async def test_a_poll_when_the_time_is_over_is_refused(site: Site) -> None:
    async with open_polling(site.port) as raw:
        await connected(raw)
        # From the open packet on, to the millisecond; the session began before this one knows of it.
        await asyncio.sleep(SERVER_OPTIONS["ping_interval_s"] + SERVER_OPTIONS["ping_timeout_s"])
        assert (await raw.poll()).status == 400


async def test_no_pong_over_websocket(site: Site) -> None:
    async with open_websocket(site.port) as raw:
        sid = await connected(raw)
        assert await raw.connection.recv() == "2"
        await raw.connection.wait_closed()
        assert await site.reason(sid) == "ping timeout"


async def test_a_session_that_joins_nothing_is_pinged_too(site: Site) -> None:
    async with open_websocket(site.port) as raw:
        assert await raw.connection.recv() == "2"
        await raw.connection.wait_closed()
        await site.connection_ends(raw.sid)


async def test_a_ping_from_the_client_is_refused(site: Site, transport: str) -> None:
    async with OPENERS[transport](site.port) as raw:
        sid = await connected(raw)
        await raw.send("2")
        assert await raw.closed()
        assert await site.reason(sid) == "transport error"


async def test_a_pong_that_nobody_asked_for_is_ignored(site: Site, transport: str) -> None:
    async with OPENERS[transport](site.port) as raw:
        await connected(raw)
        await raw.send("3")
        await raw.send('42["say"]')
        assert await raw.receive() == '42["said"]'


async def test_the_heartbeat_goes_on_over_an_upgrade(site: Site) -> None:
    async with open_polling(site.port) as raw:
        sid = await connected(raw)
        async with asyncio.timeout(DEADLINE_S):
            async with probing(site, raw) as connection:
                await connection.send("5")
                upgraded = RawWebSocket(connection, raw.opened)
                for _ in range(2):
                    assert await connection.recv() == "2"
                    await upgraded.send("3")
                assert sid not in site.left
