"""The servers that are measured: what each is, and how its process is started."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.speed.process import SERVER_CORE, pin
from tests.support.postgres import PostgresServer
from tests.support.server_process import free_port

__all__ = ["CONTENDERS", "Contender", "Serving", "command_of", "missing", "serving"]

_REPOSITORY = Path(__file__).parent.parent.parent
_NODE = str(_REPOSITORY / "bench" / "speed" / "js" / "server.js")
_POSTGRES = Path("/usr/lib/postgresql")
_START_S = 20.0
_WAYPOST = ("-m", "waypost", "serve", "bench.speed.servers.waypost_app:io", "--port", "{port}", "--store")
_DATABASE = "{database}"
_UVICORN = ("-m", "uvicorn", "bench.speed.servers.python_socketio_app:asgi", "--port", "{port}")
_AIOHTTP = ("-m", "bench.speed.servers.python_socketio_app", "{port}")


@dataclass(frozen=True)
class Contender:
    """A server, and what it can.

    Attributes:
        name: What it is called on the command line and in tables.
        program: ``python`` or ``node``.
        arguments: What its program is told; ``{port}``, ``{directory}`` and ``{database}``, the address of an empty
            one on a PostgreSQL server of its own, are filled in.
        environment: What is set for it.
        recovers: Whether clients get back what they missed.
    """

    name: str
    program: str
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    recovers: bool = False


def _waypost(name: str, store: str, **environment: str) -> Contender:
    recovers = environment.get("BENCH_RECOVERY") != "off"
    return Contender(name, "python", (*_WAYPOST, store), environment, recovers)


def _workers(count: int, store: str) -> Contender:
    arguments = (*_WAYPOST, store, "--workers", str(count))
    kind = {"memory:": "memory", _DATABASE: "postgres"}.get(store, "sqlite")
    return Contender(f"waypost-{kind}-workers-{count}", "python", arguments, recovers=True)


CONTENDERS = {
    contender.name: contender
    for contender in (
        _waypost("waypost-memory", "memory:"),
        _waypost("waypost-off", "memory:", BENCH_RECOVERY="off"),
        _waypost("waypost-sqlite", "{directory}/bench.db"),
        _waypost("waypost-sqlite-async", "{directory}/bench.db", BENCH_DURABILITY="async"),
        *(_workers(count, store) for store in ("memory:", "{directory}/bench.db") for count in (2, 4)),
        # Each worker is a node.
        _waypost("waypost-postgres", _DATABASE),
        *(_workers(count, _DATABASE) for count in (2, 3)),
        Contender("node", "node", (_NODE, "{port}")),
        Contender("node-recovery", "node", (_NODE, "{port}"), {"BENCH_RECOVERY": "on"}, recovers=True),
        Contender("python-socketio-uvicorn", "python", (*_UVICORN, "--no-access-log", "--log-level", "warning")),
        Contender("python-socketio-aiohttp", "python", _AIOHTTP),
        Contender("ceiling", "python", ("-m", "bench.speed.servers.ceiling", "{port}")),
    )
}
"""All, by name; ``ceiling`` has no Socket.IO and is what the load generator is held against."""


@dataclass(frozen=True)
class Serving:
    """A server that runs.

    Attributes:
        contender: Which.
        port: Where.
        pid: Its process.
    """

    contender: Contender
    port: int
    pid: int


def missing(contender: Contender) -> str | None:
    """Say what a server lacks to be run here; ``None`` if nothing."""
    if contender.program == "node" and not shutil.which("node"):
        return "Node.js is not installed"
    if contender.program == "node" and not (Path(_NODE).parent / "node_modules" / "socket.io").exists():
        return "its packages are not installed; make bench does that"
    if _DATABASE in contender.arguments and not any(
        shutil.which("postgres", path=str(one)) for one in ("/usr/local/bin", *_POSTGRES.glob("*/bin"))
    ):
        return "PostgreSQL is not installed"
    return None


@contextmanager
def command_of(contender: Contender, port: int, directory: str) -> Iterator[list[str]]:
    """Give what starts it; the PostgreSQL server that it needs runs within the block, on any core."""
    program = sys.executable if contender.program == "python" else shutil.which(contender.program)
    engine = PostgresServer.make() if _DATABASE in contender.arguments else None
    try:
        database = ""
        if engine is not None:
            engine.start()
            database = engine.url(engine.create_database())
        parts = [part.format(port=port, directory=directory, database=database) for part in contender.arguments]
        yield [str(program), *parts]
    finally:
        if engine is not None:
            engine.remove()


@asynccontextmanager
async def serving(contender: Contender, **environment: str) -> AsyncIterator[Serving]:
    """Run a server on its core within a block; what it logs is shown if it does not start, or ends by itself."""
    port = free_port()
    with (
        tempfile.TemporaryDirectory(prefix="waypost-bench-") as directory,
        command_of(contender, port, directory) as command,
    ):
        log = Path(directory) / "log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=_REPOSITORY,
                env={**os.environ, **contender.environment, **environment},
                stdout=output,
                stderr=output,
            )
        pin(process.pid, SERVER_CORE)
        try:
            await _listening(process, port, log)
            yield Serving(contender, port, process.pid)
            if process.returncode is not None:
                raise RuntimeError(f"{contender.name} ended by itself:\n{log.read_text()[-2000:]}")
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _listening(process: asyncio.subprocess.Process, port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            if process.returncode is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start:\n{log.read_text()[-2000:]}") from None
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return
