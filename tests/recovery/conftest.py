"""A server with an SQLite store and this package's application, for a module or for one test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

import pytest
import pytest_asyncio

from tests.interop.peer import MODES, Peer
from tests.recovery.clients import Clients
from tests.support.chosen_store import is_postgresql
from tests.support.databases import make_database
from tests.support.server_process import HEARTBEAT, ServerProcess

APPLICATION = "tests.recovery.app:io"

SHORT_HEARTBEAT: dict[str, Any] = {"ping_interval_s": 2, "ping_timeout_s": 3}
"""For a server that is killed or cut off again and again: see HEARTBEAT, which would take long there."""


def make_process(directory: Path, store: str | None = None, **options: Any) -> ServerProcess:
    """Make a server process, with a store of its own unless told otherwise; it is not started."""
    if store is None:
        store = make_database() if is_postgresql() else str(directory / "store.db")
    command = ("-m", "waypost", "serve", APPLICATION, "--port", "{port}", "--store", store)
    return ServerProcess(command, directory / "server.log", {"drain_s": 0.1, **HEARTBEAT, **options})


class Launch(Protocol):
    """Start a server for one test; keywords are its options."""

    async def __call__(self, *, store: str | None = None, **options: Any) -> ServerProcess: ...


@pytest.fixture(params=list(MODES))
def mode(request: pytest.FixtureRequest) -> str:
    """Which transports the client may use: polling only, WebSocket only, or polling and then an upgrade."""
    return str(request.param)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ServerProcess]:
    """A server for a whole module; the module's SERVER_OPTIONS are its options."""
    options = getattr(request.module, "SERVER_OPTIONS", {})
    server = make_process(tmp_path_factory.mktemp("server"), **options)
    await server.start()
    yield server
    await server.stop()
    server.check_log()


@pytest_asyncio.fixture(loop_scope="module")
async def clients(peer: Peer, server: ServerProcess) -> AsyncIterator[Clients]:
    """Clients of the module's server; after the test they leave and its log is looked at."""
    yield Clients(peer, server)
    await peer.leave_all()
    server.check_log()


@pytest_asyncio.fixture(loop_scope="module")
async def launch(peer: Peer, tmp_path: Path) -> AsyncIterator[Launch]:
    """Start servers for one test; at its end they stop and their logs are looked at."""
    started: list[ServerProcess] = []

    async def start(*, store: str | None = None, **options: Any) -> ServerProcess:
        directory = tmp_path / str(len(started))
        directory.mkdir()
        server = make_process(directory, store, **options)
        started.append(server)
        await server.start()
        return server

    yield start
    await peer.leave_all()
    for server in started:
        if server.alive():
            await server.stop()
        server.check_log()
