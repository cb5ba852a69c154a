"""A function that kills its process each time it has a message: the message is given up in the end."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import asyncio, json, os, signal, sys, time
import waypost

store, max_losses, fatal = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
io = waypost.Server(store=store, drain_s=0, stop_timeout_s=0.1, queues=waypost.QueueOptions(first_backoff_s=0))
done = []

@io.consumer("jobs", max_losses=max_losses)
async def work(message, job):
    if job == "fatal":
        # A note of what is in hand is written a little later.
        await asyncio.sleep(0.2)
        if fatal == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(60)
    done.append(job)

async def main():
    await io.start()
    queue = io.queue("jobs")
    if not (await queue.info()).newest_offset:
        await queue.emit("job", "fatal")
        await queue.emit("job", "harmless")
    end = time.monotonic() + (0.4 if fatal == "stop" else 30)
    while not done and time.monotonic() < end:
        await asyncio.sleep(0.01)
    letters = await queue.dead_letters()
    while done and not letters and time.monotonic() < end:
        # What became of it is stored a little later.
        await asyncio.sleep(0.01)
        letters = await queue.dead_letters()
    letters = [[one.args[0], one.lost_deliveries, one.failures] for one in letters]
    await io.close()
    print(json.dumps([done, letters]))

asyncio.run(main())
"""


async def run(store: Path, max_losses: int | None, fatal: str) -> tuple[int, list[Any]]:
    """Run the program once; returns how it ended, and what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, str(store), json.dumps(max_losses), fatal, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, json.loads(out) if out else []


async def test_a_message_that_kills_its_process_is_a_dead_letter_after_max_losses(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    for _ in range(3):
        assert await run(store, 3, "kill") == (-signal.SIGKILL, [])
    assert await run(store, 3, "kill") == (0, [["harmless"], [["fatal", 3, 0]]])


@pytest.mark.long
async def test_twenty_kills_are_too_many_by_default(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    for _ in range(20):
        assert await run(store, None, "kill") == (-signal.SIGKILL, [])
    assert await run(store, None, "kill") == (0, [["harmless"], [["fatal", 20, 0]]])


@pytest.mark.long
async def test_stops_before_a_function_is_done_end_nothing(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    for _ in range(4):
        assert await run(store, 2, "stop") == (0, [[], []])
