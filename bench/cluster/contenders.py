"""The services that are measured: what each is made of, and how its nodes and its engine are started."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.postgres import PostgresServer
from tests.support.server_process import free_port

__all__ = ["CONTENDERS", "Contender", "Service", "missing", "started"]

REPOSITORY = Path(__file__).parent.parent.parent
JS = REPOSITORY / "bench" / "cluster" / "js"
_START_S = 30.0


@dataclass(frozen=True)
class Contender:
    """A way to make several servers one service.

    Attributes:
        name: Its name in tables.
        engine: What the nodes share: ``postgres`` or ``redis``.
        command: How a node is started; ``{port}`` and ``{url}`` are filled in.
        environment: What is set for a node; filled in likewise.
        awaits: Whether an emit can be awaited.
    """

    name: str
    engine: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    awaits: bool = True


_WAYPOST = ("{python}", "-m", "waypost", "serve", "bench.cluster.servers.waypost_app:io", "--port", "{port}")
_UVICORN = ("{python}", "-m", "uvicorn", "bench.cluster.servers.python_socketio_app:asgi", "--port", "{port}")
_NODE = ("node", str(JS / "server.js"), "{port}")

CONTENDERS = {
    one.name: one
    for one in (
        Contender("waypost-postgres", "postgres", (*_WAYPOST, "--store", "{url}")),
        Contender("python-socketio-redis", "redis", (*_UVICORN, "--log-level", "warning"), {"BENCH_REDIS": "{url}"}),
        Contender("node-redis-streams", "redis", (*_NODE, "redis-streams", "{url}"), awaits=False),
        Contender("node-postgres", "postgres", (*_NODE, "postgres", "{url}"), awaits=False),
    )
}
"""All, by name."""


class Service:
    """The nodes of one contender, which run.

    Args:
        contender: Which.
        url: Where the engine is.
        nodes: How many nodes.
        directory: For their logs.

    Attributes:
        contender: Which.
        url: Where the engine is.
        ports: The ports of the nodes.
    """

    def __init__(self, contender: Contender, url: str, nodes: int, directory: Path) -> None:
        self.contender = contender
        self.url = url
        self.ports = [free_port() for _ in range(nodes)]
        self._directory = directory
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def urls(self) -> list[str]:
        """The addresses of the nodes."""
        return [f"http://127.0.0.1:{port}" for port in self.ports]

    async def start(self, node: int) -> None:
        """Start a node, and wait until it listens."""
        log = self._directory / f"node-{node}.log"
        port = self.ports[node]
        process = self._processes[node] = self._spawn(port, log)
        deadline = time.monotonic() + _START_S
        while not await _listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"a node of {self.contender.name} did not start:\n{log.read_text()[-2000:]}")
            await asyncio.sleep(0.05)

    def kill(self, node: int) -> None:
        """Kill a node with all that it has started."""
        process = self._processes.pop(node)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def pids(self) -> list[int]:
        """Return the processes of the nodes."""
        return [process.pid for process in self._processes.values()]

    def end(self) -> None:
        """Kill all nodes."""
        for node in [*self._processes]:
            self.kill(node)

    def _spawn(self, port: int, log: Path) -> subprocess.Popen[bytes]:
        filled = {"port": str(port), "url": self.url, "python": sys.executable}
        command = [part.format(**filled) for part in self.contender.command]
        environment = {name: value.format(**filled) for name, value in self.contender.environment.items()}
        with log.open("ab") as output:
            return subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env={**os.environ, **environment},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )


def missing(contender: Contender) -> str | None:
    """Say what a contender lacks to be run here; ``None`` if nothing."""
    if shutil.which("node") is None:
        return "Node.js is not installed; the clients are the official ones"
    if not (JS / "node_modules" / ".installed").exists():
        return "its packages are not installed: make bench-cluster"
    if contender.engine == "redis" and shutil.which("redis-server") is None:
        return "redis-server is not installed"
    return None


@contextmanager
def started(contender: Contender, nodes: int) -> Iterator[Service]:
    """Start a contender's engine with its data in a temporary folder; the caller starts the nodes."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="waypost-bench-")))
        engine = _postgres if contender.engine == "postgres" else _redis
        service = Service(contender, stack.enter_context(engine(directory)), nodes, directory)
        stack.callback(service.end)
        yield service


@contextmanager
def _postgres(_: Path) -> Iterator[str]:
    server = PostgresServer.make()
    try:
        server.start()
        yield server.url(server.create_database(), host="127.0.0.1")
    finally:
        server.remove()


@contextmanager
def _redis(directory: Path) -> Iterator[str]:
    port = free_port()
    command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", str(directory), "--save", ""]
    process = subprocess.Popen([*command, "--appendonly", "yes"], stdout=subprocess.DEVNULL)
    try:
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
