"""The parts of the benchmark: each runs short-lived processes, and hands what they measured to a table."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.queue.documents import PREFETCH, THEIR_PREFETCH
from bench.queue.servers import Contender
from bench.queue.table import Table
from tests.support.postgres import PostgresServer

__all__ = ["PARTS", "Bench", "Extent"]

PARTS = ("emit", "deliver", "backlog", "idle")

_REPOSITORY = Path(__file__).parent.parent.parent
_IN_FLIGHT = (1, 16, 128, 1024)
_CONSUMERS = (1, 100)
_WAYPOST = ("waypost", "waypost-postgres")
_LIMIT_S = 300


@dataclass(frozen=True)
class Extent:
    """How much is measured.

    Attributes:
        rounds: How often everything is measured.
        seconds: For how long is published, each time.
        messages: How many messages are delivered, each time.
        backlogs: How many messages wait.
        idle: How many queues are made that nobody uses.
    """

    rounds: int
    seconds: float
    messages: int
    backlogs: tuple[int, ...]
    idle: int


@dataclass
class Bench:
    """What is measured where.

    Attributes:
        directory: Where the data is.
        extent: How much is measured.
        table: Takes the results.
        contenders: Who is there.
        addresses: The ports of the servers that run, by service.
        postgres: The PostgreSQL server, if it is there.
    """

    directory: Path
    extent: Extent
    table: Table
    contenders: list[Contender] = field(default_factory=list)
    addresses: dict[str, str] = field(default_factory=dict)
    postgres: PostgresServer | None = None

    async def measure(self, part: str) -> None:
        """Measure a part, and print it."""
        parts = {"emit": self._emit, "deliver": self._deliver, "backlog": self._backlog, "idle": self._idle}
        await parts[part]()
        self.table.print(part)

    async def _emit(self) -> None:
        for _ in range(self.extent.rounds):
            for in_flight in _IN_FLIGHT:
                for contender in self.contenders:
                    task = {
                        "do": "publish",
                        "contender": contender.name,
                        "address": self.addresses.get(contender.service) or self._fresh(contender.name),
                        "in_flight": in_flight,
                        "seconds": self.extent.seconds,
                    }
                    await self._run("emit", f"{in_flight} in flight", contender.name, "publisher", task)

    async def _deliver(self) -> None:
        for number in range(self.extent.rounds):
            for consumers in _CONSUMERS:
                for contender in self.contenders:
                    setting = f"{consumers} consumers"
                    if contender.name in _WAYPOST:
                        await self._drain(setting, number, consumers, "none", contender.name)
                        continue
                    task = {
                        "do": "consume",
                        "contender": contender.name,
                        "address": self.addresses[contender.service],
                        "consumers": consumers,
                        "messages": self.extent.messages,
                    }
                    await self._run("deliver", setting, contender.name, "publisher", task)
            for name in [one.name for one in self.contenders if one.name in _WAYPOST]:
                await self._drain("1 consumers", number, 1, "none", f"{name}, 256", THEIR_PREFETCH)
                await self._drain("1 consumer, strict", number, 1, "strict", name)

    async def _drain(
        self,
        setting: str,
        number: int,
        sockets: int,
        order: str,
        contender: str = "waypost",
        prefetch: int = PREFETCH,
    ) -> None:
        async with self._server(contender.partition(",")[0]) as port:
            messages = self.extent.messages // (4 if order == "strict" else 1)
            task = {
                "do": "drain",
                "port": port,
                "queue": f"drain {number}",
                "sockets": sockets,
                "order": order,
                "messages": messages,
                "prefetch": prefetch,
            }
            await self._run("deliver", setting, contender, "sockets", task)

    async def _backlog(self) -> None:
        async with self._server() as port:
            for size in self.extent.backlogs:
                await self._sockets({"do": "fill", "port": port, "sockets": 1, "queue": f"{size}", "messages": size})
            for _ in range(self.extent.rounds):
                for size in self.extent.backlogs:
                    messages = self.extent.messages // 4
                    task = {"do": "stand", "port": port, "sockets": 1, "queue": f"{size}", "messages": messages}
                    await self._run("backlog", f"{size:,} waiting", "waypost", "sockets", task)
            for size in self.extent.backlogs[1:]:
                task = {"do": "replay", "port": port, "sockets": 2, "queue": f"{size}"}
                await self._run("backlog", f"{size:,} to one socket", "waypost", "sockets", task)

    async def _idle(self) -> None:
        task = {"queues": self.extent.idle, "address": self._fresh()}
        await self._run("idle", f"{self.extent.idle:,} queues", "waypost", "idle", task)

    async def _sockets(self, task: dict[str, Any]) -> dict[str, float]:
        return await run("sockets", {**task, "cores": [0]})

    async def _run(self, part: str, setting: str, contender: str, module: str, task: dict[str, Any]) -> None:
        """Let a process measure, and keep what it found; one that fails or takes too long is told of."""
        print(f"{part}, {setting}, {contender} …", end="\r", file=sys.stderr, flush=True)
        try:
            measured = await run(module, {**task, "cores": [0]})
        except (RuntimeError, TimeoutError) as problem:
            print(f"{part}, {setting}: {contender} gave no number: {problem}", flush=True)
            return
        self.table.add(part, setting, contender, measured)

    def _fresh(self, contender: str = "waypost") -> str:
        """Return an empty directory for a store, or the address of an empty database."""
        if contender == "waypost-postgres":
            assert self.postgres is not None
            return self.postgres.url(self.postgres.create_database())
        directory = self.directory / "waypost"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        return str(directory)

    @asynccontextmanager
    async def _server(self, contender: str = "waypost") -> AsyncIterator[int]:
        """Run `bench.queue.app` on core 1 with an empty store."""
        store = self._fresh(contender)
        store = store if "://" in store else f"{store}/server.db"
        command = ["-m", "waypost", "serve", "bench.queue.app:io", "--port", "0", "--store", store]
        process = await asyncio.create_subprocess_exec(
            *("taskset", "-c", "1", sys.executable, *command), cwd=_REPOSITORY, stdout=asyncio.subprocess.PIPE
        )
        try:
            assert process.stdout is not None
            line = (await process.stdout.readline()).decode()
            assert "synchronous=FULL" in line or "://" in store, line
            yield int(line.split("listening on http://")[1].split()[0].rpartition(":")[2])
        finally:
            process.terminate()
            await process.wait()


async def run(module: str, task: dict[str, Any]) -> dict[str, float]:
    """Run a process of this package with a task; returns what it printed.

    Raises:
        RuntimeError: It failed.
        TimeoutError: It took longer than five minutes; it is ended.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"bench.queue.{module}", json.dumps(task)),
        cwd=_REPOSITORY,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, problems = await asyncio.wait_for(process.communicate(), _LIMIT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise RuntimeError(problems.decode(errors="replace").strip().rpartition("\n")[2])
    measured: dict[str, float] = json.loads(out)
    return measured
