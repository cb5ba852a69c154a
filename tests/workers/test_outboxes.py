"""Events of durable outboxes at real workers: each is handled once, to whichever worker its client comes back."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections import Counter
from math import inf
from pathlib import Path
from random import Random

import pytest

import waypost
from tests.support.link import Link
from tests.support.server_process import ServerProcess

pytestmark = pytest.mark.asyncio

_EVENTS = 60


def _server(folder: Path) -> ServerProcess:
    command = ("-m", "waypost", "serve", "tests.workers.outbox_app:io", "--port", "{port}", "--workers", "3")
    # Handlers outlast the time of grace: a client that comes back is let in while its event is in hand elsewhere.
    options = {"drain_s": 0.1, "notes": str(folder / "notes"), "handler_grace_s": 0.02}
    return ServerProcess((*command, "--store", str(folder / "store.db")), folder / "server.log", options)


class Notes:
    """What the workers have noted of the events that they handle.

    Attributes:
        killed: The workers that were killed.
    """

    def __init__(self, path: Path) -> None:
        self.killed: set[int] = set()
        self._path = path

    def read(self) -> list[tuple[str, int, int]]:
        """Return what was noted: that an event begins or ends, its number, the worker."""
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        return [tuple(json.loads(line)) for line in lines]

    def begun(self) -> list[int]:
        return [number for what, number, _ in self.read() if what == "begins"]

    def kill_last(self) -> None:
        """Kill the worker that has noted something last."""
        notes = self.read()
        if notes and notes[-1][2] not in self.killed:
            self.killed.add(notes[-1][2])
            os.kill(notes[-1][2], signal.SIGKILL)


async def test_events_of_an_outbox_are_handled_once_whichever_worker_they_come_to(
    tmp_path: Path, rng: Random
) -> None:
    notes = await _run(tmp_path, rng, kill_after_s=inf)
    assert notes.begun() == list(range(_EVENTS))
    assert [number for what, number, _ in notes.read() if what == "ends"] == list(range(_EVENTS))
    workers = Counter(worker for _, _, worker in notes.read())
    assert len(workers) > 1, "its client has never come to another worker"


@pytest.mark.long
async def test_only_what_a_killed_worker_had_in_hand_is_handled_again(tmp_path: Path, rng: Random) -> None:
    notes = await _run(tmp_path, rng, kill_after_s=0.7)
    assert sorted({*notes.begun()}) == list(range(_EVENTS))
    assert notes.begun() == sorted(notes.begun())
    assert len(notes.killed) > 1
    last: dict[int, int] = {}
    for what, number, worker in notes.read():
        if what == "begins":
            assert last.get(number) in (None, *notes.killed), f"{number} was handled again, its worker lives"
            last[number] = worker


async def _run(folder: Path, rng: Random, kill_after_s: float) -> Notes:
    server, notes = _server(folder), Notes(folder / "notes")
    await server.start()
    try:
        async with Link.to(server.port) as link:
            await _send_over_cuts(link, folder, rng, notes, kill_after_s)
    finally:
        await server.stop()
    return notes


async def _send_over_cuts(link: Link, folder: Path, rng: Random, notes: Notes, kill_after_s: float) -> None:
    client = waypost.Client(
        link.url, outbox=folder / "outbox.db", transports=["websocket"], reconnection_delay_s=0.01
    )
    await client.connect()
    for number in range(_EVENTS):
        await client.emit("order", number, rng.uniform(0, 0.15))
    kill_at = time.monotonic() + kill_after_s
    async with asyncio.timeout(120):
        while await client.outbox.count():
            await asyncio.sleep(rng.uniform(0.01, 0.25))
            link.cut()
            if time.monotonic() > kill_at:
                notes.kill_last()
                kill_at = time.monotonic() + kill_after_s
    await client.close()
