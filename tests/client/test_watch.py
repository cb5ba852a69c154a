"""Silence, noticed: also when it was this machine that slept, and nobody else."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

import waypost
from tests.client import serving
from tests.support.link import Link
from tests.support.waiting import until
from waypost.client import watch
from waypost.client.watch import Watch


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(watch, "_now", clock)
    return clock


async def test_silence_is_noticed_once(clock: Clock) -> None:
    silences: list[int] = []
    watching = Watch(0.05, lambda: silences.append(1))
    watching.begin()
    assert not watching.is_overdue()
    clock.now += 1
    await until(lambda: silences == [1], "the silence")
    await asyncio.sleep(0.1)
    assert silences == [1]


async def test_only_what_is_awaited_can_be_late(clock: Clock) -> None:
    silences: list[int] = []
    watching = Watch(0.02, lambda: silences.append(1))
    watching.begin()
    watching.pause()
    clock.now += 100
    await asyncio.sleep(0.1)
    assert not watching.is_overdue()
    watching.begin()
    watching.stop()
    clock.now += 100
    await asyncio.sleep(0.1)
    assert silences == []


async def test_what_came_during_a_sleep_is_read_before_silence_is_declared(clock: Clock) -> None:
    silences: list[int] = []
    watching = Watch(20, lambda: silences.append(1))
    watching.begin()
    clock.now += 100  # the machine slept; the loop's own timers did not notice
    assert watching.is_overdue()
    watching.pause()  # and here comes what had arrived meanwhile
    watching.begin()
    assert not watching.is_overdue()
    await asyncio.sleep(0.1)
    assert silences == []
    clock.now += 100
    assert watching.is_overdue()
    await until(lambda: silences == [1], "the silence")


async def test_nothing_is_given_to_a_connection_that_may_be_dead(
    io: waypost.Server, link: Link, clock: Clock
) -> None:
    arrived: list[int] = []

    @io.event
    async def note(socket: waypost.Socket, n: int) -> None:
        arrived.append(n)

    client = waypost.Client(link.url, reconnection_delay_s=0.02)
    recorder = serving.Recorder(client)
    async with client:
        clock.now += 1000
        await client.emit("note", 1)
        assert await client.volatile.emit("note", 2) is False
        await until(lambda: arrived == [1], "the note, on the next connection")
    assert recorder.seen[:3] == [("connect",), ("disconnect", "ping timeout"), ("connect",)]


async def test_a_client_that_is_never_closed_makes_no_noise(io: waypost.Server, url: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import asyncio, waypost\n"
        "async def main():\n"
        f"    client = waypost.Client({url!r})\n"
        "    client.on('disconnect', lambda reason: print(reason))\n"
        "    await client.connect()\n"
        "    print(await client.call('echo', 1))\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "always", str(script), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, error = await process.communicate()
    assert (out, error.decode(), process.returncode) == (b"1\nio client disconnect\n", "", 0)
