"""Answers to outboxes that a client makes up do not fill the disk."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.support.raw import RawWebSocket, join, websocket
from tests.support.server_process import ServerProcess

pytestmark = pytest.mark.asyncio

MIB = 1 << 20
TEXT = "x" * 100_000
HEADERS = {"waypost-client": "1"}


async def echo(raw: RawWebSocket, number: int, client: str = "") -> str:
    """Send an event of an outbox; returns the answer."""
    mark = {"client": client or f"made up, number {number}", "message": "m", "sequence": 1, "settled": 0}
    await raw.send(f"42{number}" + json.dumps(["echo", TEXT, {"_waypost": mark}]))
    answer = await raw.receive()
    assert isinstance(answer, str)
    return answer


async def test_outboxes_that_a_client_makes_up_fill_no_disk(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    options = {"trusted_proxies": ["127.0.0.1"], "max_answer_bytes_per_address": 2 * MIB}
    server = ServerProcess.waypost(tmp_path / "server.log", str(store), options)
    await server.start()
    honest_client = "the client of an honest user"
    async with websocket(server.port, headers={**HEADERS, "X-Forwarded-For": "203.0.113.8"}) as connection:
        await connection.recv()
        honest = RawWebSocket(connection, {})
        await join(honest)
        answer = await echo(honest, 1, honest_client)
        async with asyncio.TaskGroup() as attackers:
            for first in (0, 100):
                attackers.create_task(attack(server.port, first))
        assert store.stat().st_size < 8 * MIB
        assert await echo(honest, 1, honest_client) == answer
    await server.stop()
    server.check_log()


async def attack(port: int, first: int) -> None:
    async with websocket(port, headers={**HEADERS, "X-Forwarded-For": "203.0.113.7"}) as connection:
        await connection.recv()
        raw = RawWebSocket(connection, {})
        await join(raw)
        for number in range(first, first + 100):
            assert TEXT in await echo(raw, number)
        # The first was given up since.
        assert "its answer was given up" in await echo(raw, first)
