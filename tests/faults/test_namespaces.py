"""One client that fills the pool of child namespaces keeps nobody else out of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.raw import RawWebSocket, websocket
from tests.support.server_process import ServerProcess

pytestmark = pytest.mark.asyncio

FULL = '{"message":"Too many namespaces"}'


async def made(port: int, address: str, numbers: range) -> list[str]:
    """Enter children from an address, as a proxy tells it; returns the answers."""
    async with websocket(port, headers={"X-Forwarded-For": f"198.51.100.1, {address}"}) as connection:
        await connection.recv()
        raw = RawWebSocket(connection, {})
        answers = []
        for number in numbers:
            await raw.send(f"40/tenant-{number},")
            answer = await raw.receive()
            assert isinstance(answer, str)
            answers.append(answer.partition(",")[2])
        return answers


def entered(answers: list[str]) -> list[bool]:
    payloads: list[dict[str, Any]] = [json.loads(answer) for answer in answers]
    assert all("sid" in payload or payload == json.loads(FULL) for payload in payloads)
    return ["sid" in payload for payload in payloads]


async def test_one_address_behind_a_proxy_does_not_fill_the_pool(tmp_path: Path) -> None:
    options = {"trusted_proxies": ["127.0.0.1"], "max_child_namespaces": 8, "max_child_namespaces_per_address": 5}
    server = ServerProcess.waypost(tmp_path / "server.log", str(tmp_path / "store.db"), options)
    await server.start()
    assert entered(await made(server.port, "203.0.113.7", range(7))) == [True] * 5 + [False] * 2
    assert entered(await made(server.port, "203.0.113.8", range(10, 15))) == [True] * 5
    await server.restart("kill")
    assert entered(await made(server.port, "203.0.113.9", range(20, 25))) == [True] * 5
    await server.stop()
    server.check_log()
