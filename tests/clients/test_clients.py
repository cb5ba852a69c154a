"""Each client of the table in docs/compatibility.md, by a program that its own users could have written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio

import waypost
from tests.clients.browsers import BROWSERS, open_browser
from tests.clients.programs import CLIENTS, Kind, Lines, build, run_program
from tests.support.server_process import ServerProcess
from tests.support.waiting import until_async

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

MODES = ("polling", "websocket", "upgrade")
SERVED = ("-m", "waypost", "serve", "tests.clients.app:io", "--port", "{port}", "--store")


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    server = ServerProcess((*SERVED, str(tmp_path / "store.db")), tmp_path / "server.log")
    await server.start()
    yield server
    if server.alive():
        await server.stop()
    server.check_log()


async def _settled(controller: waypost.Client, name: str) -> None:
    await until_async(
        lambda: controller.call("waiting", name), lambda left: left == 0, f"all jobs of {name} acknowledged"
    )


async def _play(server: ServerProcess, program: Lines, name: str, steps: Sequence[str], *, does: Kind) -> None:
    """Go through the first connect, events and jobs, and a kill of the server; nothing is lost or comes twice."""
    await program.connected(1)
    await program.says(steps)
    async with waypost.Client(server.url) as controller:
        await controller.call("publish_bytes", name)
        for number in (1, 2, 3):
            await controller.call("publish", name, number)
            if does.acknowledges:
                await controller.call("enqueue", name, number)
        await program.says(["bytes", *(f"news {number}" for number in (1, 2, 3))])
        if does.acknowledges:
            await program.says([f"job {number}" for number in (1, 2, 3)])
            await _settled(controller, name)
    await server.kill()
    await server.start()
    async with waypost.Client(server.url) as controller:
        if does.acknowledges:
            await controller.call("enqueue", name, 4)
        if does.recovers:
            await controller.call("publish", name, 4)
        await program.connected(2)
        await controller.call("publish", name, 5)
        await program.says(["news 5", *(["news 4"] if does.recovers else [])])
        if does.acknowledges:
            await program.says(["job 4"])
            await _settled(controller, name)
    assert program.numbers("news") == ([1, 2, 3, 4, 5] if does.recovers else [1, 2, 3, 5])
    assert program.numbers("job") == ([1, 2, 3, 4] if does.acknowledges else [])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", CLIENTS, ids=lambda kind: kind.name)
async def test_a_client_does_what_it_can_and_comes_back_after_a_kill(
    server: ServerProcess, kind: Kind, mode: str
) -> None:
    await asyncio.to_thread(build, kind.folder)
    async with run_program(kind, server.url, mode, "seven") as program:
        await _play(server, program, "seven", kind.steps, does=kind)


@pytest.mark.chromium
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("browser", BROWSERS)
async def test_a_browser_does_the_same(server: ServerProcess, browser: str, mode: str, tmp_path: Path) -> None:
    await asyncio.to_thread(build, "js")
    profile = tmp_path / "profile"
    profile.mkdir()
    async with open_browser(browser, server.url, mode, "seven", profile) as program:
        await _play(server, program, "seven", CLIENTS[0].steps, does=CLIENTS[0])
