"""Events of durable outboxes at real workers: each is handled once, to whichever worker its client comes back."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
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


async def test_events_of_an_outbox_are_handled_once_whichever_worker_they_come_to(
    tmp_path: Path, rng: Random
) -> None:
    server = _server(tmp_path)
    await server.start()
    try:
        async with Link.to(server.port) as link:
            await _send_over_cuts(link, tmp_path, rng)
    finally:
        await server.stop()
    notes: list[tuple[str, int, int]] = [
        tuple(json.loads(line)) for line in (tmp_path / "notes").read_text().splitlines()
    ]
    assert [number for what, number, _ in notes if what == "begins"] == list(range(_EVENTS))
    assert [number for what, number, _ in notes if what == "ends"] == list(range(_EVENTS))
    workers = Counter(worker for _, _, worker in notes)
    assert len(workers) > 1, "its client has never come to another worker"


async def _send_over_cuts(link: Link, folder: Path, rng: Random) -> None:
    client = waypost.Client(
        link.url, outbox=folder / "outbox.db", transports=["websocket"], reconnection_delay_s=0.01
    )
    await client.connect()
    for number in range(_EVENTS):
        await client.emit("order", number, rng.uniform(0, 0.15))
    async with asyncio.timeout(120):
        while await client.outbox.count():
            await asyncio.sleep(rng.uniform(0.01, 0.25))
            link.cut()
    await client.close()
