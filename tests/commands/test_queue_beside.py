"""`waypost queue` beside a server that owns the store, in a process of its own."""

from __future__ import annotations

import json
import queue
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.commands.stores import Command

DEADLINE_S = 60.0

SERVER = """
import asyncio, sys
import waypost

io = waypost.Server(store=sys.argv[1], queues=waypost.QueueOptions(max_failures=1))
is_ill = True

@io.consumer("jobs")
async def handle(message, job):
    if is_ill and job == "ill":
        raise waypost.Reject("ill")
    print(job, flush=True)

async def main():
    global is_ill
    await io.start()
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        if line == "heal\\n":
            is_ill = False
        else:
            await io.queue("jobs").emit("job", line.strip())
    await io.close()

asyncio.run(main())
"""


class Served:
    """A server's process: emits what it is told to, and prints what its worker has handled."""

    def __init__(self, path: Path) -> None:
        command = [sys.executable, "-c", SERVER, str(path)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.strip())

    def tell(self, *lines: str) -> None:
        assert self._process.stdin is not None
        for line in lines:
            print(line, file=self._process.stdin, flush=True)

    def says(self, *lines: str) -> None:
        """Wait for the next lines, which must be these."""
        assert [self._lines.get(timeout=DEADLINE_S) for _ in lines] == list(lines)

    def leave(self) -> int:
        """Let it end; returns its exit code."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            return self._process.wait(DEADLINE_S)
        finally:
            self._process.kill()
            self._process.wait()
            self._reading.join()
            self._process.stdout.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    server = Served(tmp_path / "store.db")
    server.says("ready")
    yield server
    assert server.leave() == 0


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(tmp_path / "store.db", capsys)


def until_there(command: Command, **numbers: int) -> None:
    """Wait until the queue has these numbers."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        shown = command.json("info", "jobs")
        if all(shown[name] == number for name, number in numbers.items()):
            return
        assert time.monotonic() < deadline, shown
        time.sleep(0.01)


def pause(command: Command, *words: str) -> None:
    """Pause the queue, and wait until the server has taken note: what it hands out until then is handed out."""
    command.run("pause", "jobs", *words)
    deadline = time.monotonic() + DEADLINE_S
    with closing(sqlite3.connect(command.path)) as connection:
        while connection.execute("SELECT count(*) FROM changed").fetchone() != (0,):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_what_is_changed_reaches_the_server_s_consumers(served: Served, command: Command) -> None:
    served.tell("one", "two")
    served.says("one", "two")
    until_there(command, messages=0)

    pause(command)
    served.tell("three", "four", "five")
    until_there(command, messages=3)
    assert [one["args"] for one in command.json("peek", "jobs", "--consumer", "default")] == [
        ["three"],
        ["four"],
        ["five"],
    ]
    assert command.json("purge", "jobs", "--upto", 3, "--yes")["removed"] == 1
    command.run("resume", "jobs")
    served.says("four", "five")
    until_there(command, messages=0)


def test_a_consumer_is_moved_back_and_forth(served: Served, command: Command) -> None:
    served.tell("one")
    served.says("one")
    until_there(command, messages=0)
    pause(command, "--consumer", "default")
    served.tell("two", "three", "four")
    until_there(command, messages=3)
    assert command.json("seek", "jobs", "default", "4", "--yes") == {
        "queue": "jobs",
        "consumer": "default",
        "offset": 3,
        "waiting": 1,
    }
    command.run("resume", "jobs", "--consumer", "default")
    served.says("four")


def test_dead_letters_come_again_at_a_rate(served: Served, command: Command) -> None:
    served.tell("ill", "ill", "well")
    served.says("well")
    until_there(command, dead_letters=2, messages=0)
    assert [one["reason"] for one in command.json("dead", "jobs")] == ["ill", "ill"]
    served.tell("heal")
    assert command.json("redrive", "jobs", "--rate", "20")["redriven"] == 2
    served.says("ill", "ill")
    until_there(command, dead_letters=0, messages=0, delayed=0)


def test_the_command_itself_in_a_process_of_its_own(served: Served, command: Command) -> None:
    served.tell("one")
    served.says("one")
    whole = [sys.executable, "-m", "waypost", "queue"]
    shown = subprocess.run([*whole, "ls", str(command.path), "--json"], capture_output=True, text=True, check=True)
    assert [(one["name"], one["consumers"]) for one in json.loads(shown.stdout)] == [("jobs", 1)]
    asked = subprocess.run(
        [*whole, "purge", str(command.path), "jobs"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert asked.returncode == 2
    assert asked.stderr.startswith("waypost: can't ask whether to remove all ")
