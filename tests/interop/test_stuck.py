"""An official client that can't take an event, over restarts of the server: it does not come back to it for ever."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.interop.peer import MODES, Peer
from tests.support.link import Link
from tests.support.server_process import ServerProcess
from waypost.server.recovery.stuck import MOST_TRIES

pytestmark = [pytest.mark.node, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(150)]


@pytest_asyncio.fixture(loop_scope="module")
async def site(peer: Peer, tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """The server of lives_app.py, on disk, which lets events out that official clients can't read."""
    command = ("-m", "waypost", "serve", "tests.interop.lives_app:io", "--port", "{port}")
    options = {
        "store": str(tmp_path / "store.db"),
        "drain_s": 0.1,
        "max_attachments": 100,
        "ping_interval_s": 1,
        "ping_timeout_s": 1,
        "max_stalled_s": 3,
    }
    server = ServerProcess(command, tmp_path / "server.log", options)
    await server.start()
    yield server
    await peer.leave_all()
    await server.stop()
    server.check_log()


async def test_an_event_that_the_parser_refuses(peer: Peer, site: ServerProcess, mode: str) -> None:
    client = await peer.client(site.url, transports=MODES[mode], auth={"name": "Ada"}, reconnectionDelayMax=200)
    first = await client.connected()
    control = await peer.client(site.url, namespace="/control", transports=MODES["websocket"])
    await client.away()
    await control.call("burden", 11, 0)
    await control.call("publish", 1)
    await client.resume()
    await client.connected(3)
    await site.restart("kill")
    await client.wait_for(lambda: not client.connects[-1].recovered, "a new session")
    assert client.connects[-1].id != first.id
    assert "'burden'" in site.log()
    assert f"on {MOST_TRIES} connections" in site.log()
    await control.connected(2)
    await control.call("publish", 2)
    assert (await client.gets("news"))[-1] == (2,)
    assert client.args_of("burden") == []


@pytest.mark.long
@pytest.mark.parametrize("mode", ["polling", "websocket"])
async def test_an_event_that_is_too_large_for_the_line(peer: Peer, site: ServerProcess, mode: str) -> None:
    control = await peer.client(site.url, namespace="/control", transports=MODES["websocket"])
    async with Link.to(site.port) as link:
        client = await peer.client(link.url, transports=MODES[mode], auth={"name": "Ada"}, reconnectionDelayMax=200)
        first = await client.connected()
        await client.away()
        await control.call("burden", 0, 500_000)
        # Before the end of it is there, the heartbeat ends the connection.
        link.most_bytes = 100_000
        await client.resume()
        await client.wait_for(lambda: client.connects[-1].id != first.id, "a new session", 60)
        assert not client.connects[-1].recovered
        assert "'burden'" in site.log()
        assert f"on {MOST_TRIES} connections" in site.log()
        await control.call("publish", 2)
        assert await client.gets("news") == [(2,)]
