"""The test's side of `node_child`: a node in a process, which is killed with the test."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from tests.support.waiting import DEADLINE_S, until

_REPOSITORY = Path(__file__).parent.parent.parent.parent


class NodeProcess:
    """A node in a process.

    Attributes:
        name: Its name.
        said: What it has said, each with the time.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.said: list[tuple[float, list[Any]]] = []
        self._process = process
        self._reading = asyncio.ensure_future(self._read())

    def order(self, command: str, *arguments: object) -> None:
        """Let it do something."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, *arguments]).encode() + b"\n")

    async def heard(self, *words: object, since: int = 0) -> float:
        """Wait until it says something, and return when it did."""
        expected = [*words]

        def found() -> list[float]:
            return [at for at, said in self.said[since:] if said[: len(expected)] == expected]

        await until(lambda: bool(found()), f"{self.name} says {expected}; it said {self.said}")
        return found()[0]

    def words(self, first: str) -> list[list[Any]]:
        """Return all that it has said that begins with a word."""
        return [said for _, said in self.said if said[0] == first]

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    async def freeze(self, seconds: float) -> None:
        """Let it stand still for a time."""
        self.signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        self.signal(signal.SIGCONT)

    async def close(self) -> None:
        """Let it say goodbye."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self.heard("closed")
        await self.end()

    async def end(self) -> None:
        """Kill it, if it lives."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()
            async with asyncio.timeout(DEADLINE_S):
                await self._process.wait()
        self._reading.cancel()

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            self.said.append((time.monotonic(), json.loads(line)))


@asynccontextmanager
async def node_processes(url: str, number: int) -> AsyncIterator[list[NodeProcess]]:
    """Start some nodes, ``n0`` and so on, that know each other."""
    started: list[NodeProcess] = []
    try:
        for index in range(number):
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tests.storage.postgres.node_child",
                url,
                f"n{index}",
                cwd=_REPOSITORY,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            started.append(NodeProcess(f"n{index}", process))
            await started[-1].heard("open")
        for index, one in enumerate(started):
            for later in started[index + 1 :]:
                await one.heard("came", later.name)
        yield started
    finally:
        for one in started:
            await one.end()
