"""Official clients of one server, made and awaited in one line."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

import pytest
import pytest_asyncio

from tests.interop.peer import MODES, Client, Peer
from tests.support.server_process import ServerProcess


class Connect(Protocol):
    """Make a client that is connected; keywords as in `Peer.client`."""

    async def __call__(self, mode: str = "websocket", **options: Any) -> Client: ...


@pytest.fixture(params=list(MODES))
def mode(request: pytest.FixtureRequest) -> str:
    """Which transports the client may use: polling only, WebSocket only, or polling and then an upgrade."""
    return str(request.param)


@pytest_asyncio.fixture(loop_scope="module")
async def connect(peer: Peer, server: ServerProcess) -> AsyncIterator[Connect]:
    """Connect clients to the module's server; after the test they leave and its log is looked at."""

    async def make(mode: str = "websocket", **options: Any) -> Client:
        options.setdefault("url", server.url)
        client = await peer.client(transports=MODES[mode], **options)
        await client.connected()
        return client

    yield make
    await peer.leave_all()
    server.check_log()


@pytest_asyncio.fixture(loop_scope="module")
async def store_server(peer: Peer, tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """A server for one test with an SQLite store, to be restarted and killed."""
    # The heartbeat must be short: see HEARTBEAT in tests/support/server_process.py.
    options = {"drain_s": 0.2, "ping_interval_s": 2, "ping_timeout_s": 3}
    server = ServerProcess.waypost(tmp_path / "server.log", str(tmp_path / "store.db"), options)
    await server.start()
    yield server
    await peer.leave_all()
    await server.stop()
    server.check_log()
