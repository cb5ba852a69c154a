"""Small messages that are large once they are decoded: how much memory they take is bounded, and none is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.raw import OPENERS, Raw, join, open_websocket
from tests.support.server_process import HEARTBEAT, ServerProcess

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1 << 20
LISTS = "[" + ",".join(["[]"] * 300_000) + "]"
"""900 kB, and 21 MiB once it is decoded."""
COUNT = 7


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def slow_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ServerProcess]:
    log = tmp_path_factory.mktemp("server") / "server.log"
    command = ("-m", "waypost", "serve", "tests.faults.slow_app:io", "--port", "{port}")
    server = ServerProcess(command, log, {"drain_s": 0.1, **HEARTBEAT, "ping_timeout_s": 30})
    await server.start()
    yield server
    await server.stop()
    server.check_log()


class Peak:
    """The most memory that a process has had in use since this was made."""

    def __init__(self, server: ServerProcess) -> None:
        self._process = Path(f"/proc/{server.pid}")
        (self._process / "clear_refs").write_text("5")
        self._before = self._bytes()

    def _bytes(self) -> int:
        lines = (self._process / "status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))

    @property
    def grown_bytes(self) -> int:
        return self._bytes() - self._before


async def answers(raw: Raw, count: int) -> set[str | bytes]:
    return {await raw.receive() for _ in range(count)}


@pytest.mark.parametrize(
    ("event", "transport"), [("work", "polling"), ("work", "websocket"), ("work_aside", "websocket")]
)
async def test_events_that_are_large_once_decoded(slow_server: ServerProcess, event: str, transport: str) -> None:
    async with OPENERS[transport](slow_server.port) as raw:
        await join(raw)
        await raw.send(f'420["{event}",{LISTS}]')
        assert await raw.receive() == "430[1]"
        peak = Peak(slow_server)
        for number in range(COUNT):
            await raw.send(f'42{number}["{event}",{LISTS}]')
        assert await answers(raw, COUNT) == {f"43{number}[1]" for number in range(COUNT)}
        # One being handled, one that waits, and what reading, decoding and the allocator need on top.
        assert peak.grown_bytes < 100 * MIB


async def test_auth_that_is_large_once_decoded(slow_server: ServerProcess) -> None:
    async with open_websocket(slow_server.port) as raw:
        peak = Peak(slow_server)
        for number in range(COUNT):
            await raw.send(f'40/other-{number},{{"lists":{LISTS}}}')
            assert await raw.receive() == f'44/other-{number},{{"message":"Auth too large"}}'
        assert peak.grown_bytes < 100 * MIB
        await join(raw)
