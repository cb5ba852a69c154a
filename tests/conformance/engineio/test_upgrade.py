"""Engine.IO 4, "Upgrade": from polling to WebSocket, and all that can come between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.conformance.site import Door, Site, connected, open_site
from tests.support.raw import WAIT_S, RawPolling, join, open_polling, open_websocket, websocket

pytestmark = pytest.mark.asyncio(loop_scope="module")

UPGRADE_TIMEOUT_S = 0.5
SERVER_OPTIONS = {"upgrade_timeout_s": UPGRADE_TIMEOUT_S}


async def test_an_upgrade(site: Site) -> None:
    async with open_polling(site.port) as raw:
        await join(raw)
        async with probing(site, raw) as connection:
            await connection.send("5")
            await connection.send('42["say","over websocket"]')
            assert await connection.recv() == '42["said","over websocket"]'


async def test_a_pending_poll_is_let_go(site: Site) -> None:
    async with open_polling(site.port) as raw:
        await join(raw)
        pending = asyncio.create_task(raw.poll())
        await site.polled(raw.sid)
        async with probing(site, raw):
            answer = await pending
            assert (answer.status, answer.body) == (200, b"6")


async def test_each_further_poll_is_let_go(site: Site) -> None:
    async with open_polling(site.port) as raw:
        await join(raw)
        async with probing(site, raw) as connection:
            for _ in range(3):
                assert (await raw.poll()).body == b"6"
            await connection.send("5")
            await connection.send('42["say"]')
            assert await connection.recv() == '42["said"]'


async def test_a_poll_that_waits_when_the_upgrade_completes(door: Door) -> None:
    async with open_site(door) as site, open_polling(site.port) as raw:
        await join(raw)
        async with websocket(site.port, {"sid": raw.sid}) as connection:
            pending = asyncio.create_task(raw.poll())
            await site.polled(raw.sid)
            await connection.send("2probe")
            await connection.send("5")
            assert (await pending).body == b"6"
            assert await connection.recv() == "3probe"


async def test_messages_during_the_upgrade_come_once_and_in_order(site: Site) -> None:
    async with open_polling(site.port) as raw:
        await join(raw)
        await raw.post(b'42["say",1]')
        assert await raw.receive() == '42["said",1]'
        async with probing(site, raw) as connection:
            await raw.post(b'42["say",2]\x1e42["say",3]')
            by_polling = (await raw.poll()).body.decode().split("\x1e")
            await raw.post(b'42["say",4]')
            await connection.send("5")
            await connection.send('42["say",5]')
            expected = [f'42["said",{number}]' for number in range(2, 6)]
            received = [packet for packet in by_polling if packet != "6"]
            while len(received) < len(expected):
                received.append(str(await connection.recv()))
            assert received == expected


async def test_http_requests_after_the_upgrade(site: Site) -> None:
    async with open_polling(site.port) as raw:
        await join(raw)
        async with probing(site, raw) as connection:
            await connection.send("5")
            await echoes(connection)
            for answer in (await raw.poll(), await raw.post(b'42["say","lost"]')):
                assert (answer.status, answer.code) == (400, 3)
            await echoes(connection)


async def test_a_websocket_after_the_upgrade(site: Site) -> None:
    async with open_polling(site.port) as raw:
        await join(raw)
        async with probing(site, raw) as first:
            await first.send("5")
            await echoes(first)
            async with websocket(site.port, {"sid": raw.sid}) as second:
                await ended(second)
            await echoes(first)


async def test_a_second_upgrade_at_the_same_time(site: Site) -> None:
    async with open_polling(site.port) as raw:
        await join(raw)
        async with probing(site, raw) as first:
            async with websocket(site.port, {"sid": raw.sid}) as second:
                await ended(second)
            await first.send("5")
            await echoes(first)


async def test_an_upgrade_of_a_websocket(site: Site) -> None:
    async with open_websocket(site.port) as raw:
        await join(raw)
        async with websocket(site.port, {"sid": raw.sid}) as second:
            await ended(second)
        await echoes(raw.connection)


@pytest.mark.parametrize("first", ["2", "3probe", "5", "4x", "6", "2probex", "", b"\x02"])
async def test_a_bad_probe_closes_only_the_websocket(site: Site, first: str | bytes) -> None:
    async with open_polling(site.port) as raw:
        await join(raw)
        async with websocket(site.port, {"sid": raw.sid}) as connection:
            await connection.send(first)
            await ended(connection)
        await still_polls(raw)


@pytest.mark.parametrize("second", ["2probe", "4x", b"\x05"])
async def test_a_bad_packet_after_the_probe_closes_only_the_websocket(site: Site, second: str | bytes) -> None:
    async with open_polling(site.port) as raw:
        await join(raw)
        async with probing(site, raw) as connection:
            await connection.send(second)
            await ended(connection)
        await still_polls(raw)


@pytest.mark.parametrize("probes", [False, True])
async def test_an_upgrade_that_takes_too_long_closes_only_the_websocket(site: Site, probes: bool) -> None:
    async with open_polling(site.port) as raw:
        await join(raw)
        async with websocket(site.port, {"sid": raw.sid}) as connection:
            if probes:
                await connection.send("2probe")
                assert await connection.recv() == "3probe"
            await ended(connection)
        await still_polls(raw)


async def test_another_try_after_one_that_failed(site: Site) -> None:
    async with open_polling(site.port) as raw:
        await join(raw)
        async with probing(site, raw):
            pass
        await site.not_probed(raw.sid)
        async with probing(site, raw) as connection:
            await connection.send("5")
            await echoes(connection)


@pytest.mark.parametrize("probes", [False, True])
async def test_a_close_by_the_client_during_the_upgrade_closes_the_websocket(door: Door, probes: bool) -> None:
    async with open_site(door, upgrade_timeout_s=60) as site, open_polling(site.port) as raw:
        await join(raw)
        async with websocket(site.port, {"sid": raw.sid}) as connection:
            if probes:
                await connection.send("2probe")
                assert await connection.recv() == "3probe"
            else:
                await site.probed(raw.sid)
            await raw.post(b"1")
            await ended(connection)


async def test_a_close_by_the_server_before_the_probe_closes_the_websocket(door: Door) -> None:
    async with open_site(door, upgrade_timeout_s=60) as site, open_polling(site.port) as raw:
        sid = await connected(raw)
        async with websocket(site.port, {"sid": raw.sid}) as connection:
            await site.probed(raw.sid)
            await site.sockets[sid].disconnect(close=True)
            await ended(connection)
        assert (await raw.poll()).body == b"41"
        assert (await raw.poll()).body == b"1"


@pytest.mark.parametrize("fetches", [False, True], ids=["over websocket", "by a poll"])
async def test_a_close_by_the_server_after_the_probe_lets_the_upgrade_finish(door: Door, fetches: bool) -> None:
    async with open_site(door, upgrade_timeout_s=60) as site, open_polling(site.port) as raw:
        sid = await connected(raw)
        async with probing(site, raw) as connection:
            await site.sockets[sid].disconnect(close=True)
            if fetches:
                assert (await raw.poll()).body == b"41"
            await connection.send("5")
            if not fetches:
                assert await connection.recv() == "41"
            await ended(connection)
        await site.connection_ends(raw.sid)


async def test_a_close_by_the_server_and_an_upgrade_that_never_finishes(door: Door) -> None:
    async with open_site(door, upgrade_timeout_s=0.2) as site, open_polling(site.port) as raw:
        sid = await connected(raw)
        async with probing(site, raw) as connection:
            await site.sockets[sid].disconnect(close=True)
            await ended(connection)
        assert (await raw.poll()).body == b"41"
        assert (await raw.poll()).body == b"1"


@asynccontextmanager
async def probing(site: Site, raw: RawPolling) -> AsyncIterator[ClientConnection]:
    """Open a WebSocket for the session and take the probe's first step."""
    async with websocket(site.port, {"sid": raw.sid}) as connection:
        await connection.send("2probe")
        assert await connection.recv() == "3probe"
        yield connection


async def echoes(connection: ClientConnection) -> None:
    await connection.send('427["echo"]')
    assert await connection.recv() == "437[]"


async def still_polls(raw: RawPolling) -> None:
    await raw.post(b'42["say","still here"]')
    while (packet := await raw.receive()) == "6":
        pass
    assert packet == '42["said","still here"]'


async def ended(connection: ClientConnection) -> None:
    async with asyncio.timeout(WAIT_S):
        try:
            while True:
                await connection.recv()
        except ConnectionClosed:
            return
