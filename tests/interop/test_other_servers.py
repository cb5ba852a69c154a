"""Under other servers' workers: gunicorn replaces its worker, and uvicorn runs two processes with a store each."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

import waypost
from tests.interop.peer import MODES, Peer
from tests.support.raw import request, target
from tests.support.server_process import ServerProcess
from tests.support.waiting import until, until_async

pytestmark = [pytest.mark.node, pytest.mark.asyncio(loop_scope="module")]

_SOON_S = 10.0
"""A poll is open for 25 s, and a worker that waits for it is away for as long."""

_WORKERS = {"own": "asgi", "uvicorn": "uvicorn_worker.UvicornWorker"}


@pytest_asyncio.fixture(loop_scope="module", params=list(_WORKERS))
async def gunicorn(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ServerProcess]:
    command = (
        "-m",
        "gunicorn",
        "--no-control-socket",
        "-w",
        "1",
        "-k",
        _WORKERS[request.param],
        "-b",
        "127.0.0.1:{port}",
    )
    server = ServerProcess(
        (*command, "tests.interop.app:io"), tmp_path / "server.log", {"store": str(tmp_path / "store.db")}
    )
    await server.start()
    yield server
    await server.kill()
    # A worker of a killed master goes on.
    for pid in filter(_lives, _workers(server)):
        os.kill(pid, signal.SIGKILL)


def _workers(server: ServerProcess) -> list[int]:
    return [int(pid) for pid in re.findall(r"Booting worker with pid: (\d+)", server.log())]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_a_reload_of_gunicorn_has_the_service_back_soon(
    peer: Peer, gunicorn: ServerProcess, transport: str
) -> None:
    client = await peer.client(gunicorn.url, transports=MODES[transport])
    await client.connected()
    assert await client.call("echo", "before") == ["before"]
    (old,) = _workers(gunicorn)
    began = time.monotonic()
    os.kill(gunicorn.pid, signal.SIGHUP)
    state = await client.connected(2)
    assert await client.call("echo", "after") == ["after"]
    assert time.monotonic() - began < _SOON_S, gunicorn.log()
    assert state.recovered
    await until(lambda: not _lives(old), "the old worker has ended")
    await peer.leave_all()
    await gunicorn.stop()
    gunicorn.check_log()


async def test_two_processes_with_a_store_in_memory_each_are_told_of_it(peer: Peer, tmp_path: Path) -> None:
    command = ("-m", "uvicorn", "--workers", "2", "--port", "{port}", "tests.interop.app:io")
    server = ServerProcess(command, tmp_path / "server.log")
    await server.start()
    await until(lambda: server.log().count("Application startup complete") == 2, "both have started")

    async def polls() -> str:
        opened = await request(server.port, "GET", target())
        sid = json.loads(opened.body[1:])["sid"]
        await request(server.port, "POST", target(sid=sid), body=b"40")
        return server.log()

    try:
        await until_async(polls, lambda log: "does not know" in log, "an unknown session")
        await until(lambda: "the store is in the memory of this process" in server.log(), "they see each other")
        await until(lambda: server.log().count("Use `waypost serve --workers N`") >= 2, "both lines say what to use")
    finally:
        await server.stop()


async def test_a_second_server_waits_for_the_file_and_says_who_has_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = str(tmp_path / "store.db")
    first, second = waypost.Server(store=store), waypost.Server(store=store, store_wait_s=0.3)
    await first.start()
    with pytest.raises(waypost.StoreBusy, match=r"0\.3 s.*waypost serve --workers") as raised:
        await second.start()
    assert raised.value.pid == os.getpid()
    assert raised.value.since is not None
    assert abs(raised.value.since - time.time()) < 60
    assert "waiting up to 0.3 s for its end" in caplog.text
    patient = waypost.Server(store=store, store_wait_s=60)
    starting = asyncio.ensure_future(patient.start())
    await until(lambda: caplog.text.count("for its end") == 2, "it waits")
    await first.close()
    await starting
    await patient.close()


async def test_a_server_that_waits_can_be_closed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = str(tmp_path / "store.db")
    first, second = waypost.Server(store=store), waypost.Server(store=store, store_wait_s=3600)
    await first.start()
    starting = asyncio.ensure_future(second.start())
    await until(lambda: "for its end" in caplog.text, "it waits")
    await second.close()
    with pytest.raises(waypost.StoreBusy):
        await starting
    await first.close()
