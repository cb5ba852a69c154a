"""The supervisor: restarts what was killed, stops gracefully, gives up on what can't start, and leaves no orphan."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.server_process import free_port
from tests.support.waiting import DEADLINE_S, until_async
from waypost.demo.supervisor import ServiceUnavailable, Supervisor

ALONE = """
import asyncio, sys
from pathlib import Path
from waypost.demo.supervisor import Supervisor

async def main():
    supervisor = Supervisor(Path(sys.argv[1]), port=int(sys.argv[2]), log_level="warning",
                            on_start=lambda *_: None, on_death=lambda _: None)
    async with supervisor:
        print("ready", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def supervisor(directory: Path, port: int = 0, *, on_death: Callable[[int], None] = lambda _: None) -> Supervisor:
    return Supervisor(
        directory,
        port=port,
        log_level="warning",
        on_start=lambda _run, _pid, _outage_s: None,
        on_death=on_death,
    )


async def state(port: int) -> dict[str, Any]:
    def read() -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/demo/state", timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    return await asyncio.to_thread(read)


async def is_listening(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def test_restarts_what_was_killed(tmp_path: Path) -> None:
    deaths: list[int] = []
    async with supervisor(tmp_path, on_death=deaths.append) as service:
        before = await state(service.port)
        assert service.kill() == before["pid"]
        await service.listening(1)
        after = await state(service.port)
        assert (before["run"], after["run"]) == (0, 1)
        assert before["pid"] != after["pid"]
        assert deaths == [-signal.SIGKILL]
        assert await service.stop() == 0
        assert not await is_listening(service.port)
    assert (tmp_path / "parcels.db").exists()


async def test_gives_up_on_a_service_that_cannot_start(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async with supervisor(tmp_path) as first:
        with pytest.raises(ServiceUnavailable, match="ended with 2"):
            async with supervisor(tmp_path, first.port):
                pass
    assert "ddress already in use" in capfd.readouterr().err


async def test_the_service_ends_with_its_supervisor(tmp_path: Path) -> None:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ALONE, str(tmp_path), str(port), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE_S):
        assert await process.stdout.readline() == b"ready\n"
    assert await is_listening(port)
    process.kill()
    await process.wait()
    await until_async(lambda: is_listening(port), lambda listening: not listening, "the service has ended")
