"""Each client of the table in docs/compatibility.md, by a program that its own users could have written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.clients.browsers import BROWSERS, open_browser
from tests.clients.playing import MODES, SERVED, play
from tests.clients.programs import CLIENTS, Kind, build, run_program
from tests.support.server_process import ServerProcess

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    server = ServerProcess((*SERVED, str(tmp_path / "store.db")), tmp_path / "server.log")
    await server.start()
    yield server
    if server.alive():
        await server.stop()
    server.check_log()


@pytest.mark.parametrize(
    ("kind", "mode"),
    [(kind, mode) for kind in CLIENTS for mode in kind.transports],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
async def test_a_client_does_what_it_can_and_comes_back_after_a_kill(
    server: ServerProcess, kind: Kind, mode: str
) -> None:
    await asyncio.to_thread(build, kind.folder)
    async with run_program(kind, server.url, mode, "seven") as program:
        await play(server, program, "seven", kind.steps, does=kind)


@pytest.mark.chromium
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("browser", BROWSERS)
async def test_a_browser_does_the_same(server: ServerProcess, browser: str, mode: str, tmp_path: Path) -> None:
    await asyncio.to_thread(build, "js")
    profile = tmp_path / "profile"
    profile.mkdir()
    async with open_browser(browser, server.url, mode, "seven", profile) as program:
        await play(server, program, "seven", CLIENTS[0].steps, does=CLIENTS[0])
