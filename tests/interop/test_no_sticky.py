"""Official clients that only poll, each request on a connection of its own, at several workers that share a port."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.interop.peer import Client, Peer
from tests.interop.publishing import ROOM, check, more, publishing
from tests.support.server_process import HEARTBEAT, ServerProcess
from tests.support.spread import NOTES_VARIABLE, Spread
from tests.support.waiting import until

pytestmark = [pytest.mark.node, pytest.mark.asyncio]

_SECONDS_VARIABLE = "WAYPOST_TEST_KILL_SECONDS"
_LEAST_SHARE = 0.3
"""So many of the requests must reach another worker than their session's, or the test tests nothing."""


@asynccontextmanager
async def service(
    tmp_path: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch, workers: int
) -> AsyncIterator[tuple[ServerProcess, Spread]]:
    """Serve by some workers, behind a proxy that counts requests."""
    notes = tmp_path / "notes"
    notes.mkdir()
    monkeypatch.setenv(NOTES_VARIABLE, str(notes))
    command = (
        "-m",
        "waypost",
        "serve",
        "tests.interop.polling_app:io",
        "--port",
        "{port}",
        "--workers",
        str(workers),
    )
    store = str(tmp_path / "store.db")
    options = {"drain_s": 0.2, "allow_eio3": True, **HEARTBEAT}
    server = ServerProcess((*command, "--store", store), tmp_path / "server.log", options)
    await server.start()
    try:
        async with Spread.over([server.port], rng) as front:
            yield server, front
        await server.stop()
    finally:
        await server.kill()


async def listen(peer: Peer, front: Spread, count: int) -> list[Client]:
    clients = [await peer.client(front.url, transports=("polling",), auth={"rooms": [ROOM]}) for _ in range(count)]
    for client in clients:
        await client.connected()
    return clients


def share(tmp_path: Path, front: Spread) -> float:
    """Return how many of the answered requests had reached another worker than their session's."""
    foreign = sum(int(note.read_text() or 0) for note in (tmp_path / "notes").iterdir())
    return foreign / front.answered


async def test_polling_needs_no_sticky_sessions(
    tmp_path: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with service(tmp_path, rng, monkeypatch, 2) as (server, front), Peer.start() as peer:
        listeners = await listen(peer, front, 6)
        async with publishing(*listeners[:3]) as publishers:
            for listener in listeners:
                await more(listener, 30)
        await check(publishers, *listeners)
        assert all(len(listener.connects) == 1 for listener in listeners)
        await until(lambda: share(tmp_path, front) >= _LEAST_SHARE, "enough requests were foreign", 5)
        server.check_log()
        await peer.leave_all()


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_workers_and_the_parent_are_killed_while_clients_poll(
    tmp_path: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends_at = time.monotonic() + float(os.environ.get(_SECONDS_VARIABLE, "40"))
    async with service(tmp_path, rng, monkeypatch, 3) as (server, front), Peer.start() as peer:
        listeners = await listen(peer, front, 6)
        async with publishing(*listeners[:3]) as publishers:
            kills = 0
            while time.monotonic() < ends_at:
                await until(lambda: len(serving(server, tmp_path)) == 3, "all workers serve")
                await asyncio.sleep(2)
                kills += 1
                if kills % 6 == 0:
                    await restart(server)
                else:
                    os.kill(rng.choice(workers_of(server)), signal.SIGKILL)
            for listener in listeners:
                await more(listener, 5)
        await check(publishers, *listeners)
        assert share(tmp_path, front) >= _LEAST_SHARE
        await peer.leave_all()


async def restart(server: ServerProcess) -> None:
    """Kill the parent, whose workers end with it, and start anew."""
    pids = workers_of(server)
    await server.kill()
    await until(lambda: not any(map(alive, pids)), "the workers have ended with their parent")
    await server.start()


def workers_of(server: ServerProcess) -> list[int]:
    """Return the processes that the command has started."""
    path = Path(f"/proc/{server.pid}/task/{server.pid}/children")
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []


def serving(server: ServerProcess, tmp_path: Path) -> list[int]:
    """Return the workers that serve."""
    return [pid for pid in workers_of(server) if (tmp_path / "notes" / str(pid)).exists()]


def alive(pid: int) -> bool:
    """Return whether a process lives; one that has ended and was not waited for does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
