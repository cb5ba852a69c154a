"""The other contenders' servers, each started on free ports of the loopback with its data in a temporary directory.

Nothing that is installed as a service is touched; what was started here ends here.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tests.support.postgres import PostgresServer

__all__ = ["CONTENDERS", "Contender", "Missing", "Service", "postgres", "require", "start"]

_START_S = 60.0
_STOP_S = 10.0
_POSTGRES = Path("/usr/lib/postgresql")
_RABBITMQ = "/usr/lib/rabbitmq/bin/rabbitmq-server"


class Missing(Exception):
    """A contender is not installed; the text says what is missing."""


@dataclass(frozen=True)
class Contender:
    """Something that keeps messages.

    Attributes:
        name: Its name in the tables.
        service: The server it needs; contenders may share one.
        client: The Python package it is used through; empty for Waypost.
        durability: What is on disk when a publish returns, in words.
        is_equal: Whether that is what Waypost promises: flushed to the disk.
    """

    name: str
    service: str
    client: str
    durability: str
    is_equal: bool = True


CONTENDERS = (
    Contender("waypost", "", "", "SQLite WAL, synchronous=FULL: flushed with the commit before emit returns"),
    Contender(
        "waypost-postgres",
        "postgres",
        "asyncpg",
        "PostgreSQL, fsync and synchronous_commit on: flushed with the commit before emit returns",
    ),
    Contender("rabbitmq quorum", "rabbitmq", "aio_pika", "quorum queue of one node: log flushed before the confirm"),
    Contender(
        "rabbitmq classic",
        "rabbitmq",
        "aio_pika",
        "durable queue, persistent messages: index flushed before the confirm",
    ),
    Contender("redis streams", "redis", "redis", "appendonly yes, appendfsync always: flushed before the reply"),
    Contender("nats jetstream", "nats", "nats", "file storage, replicas 1, sync_interval always", is_equal=True),
    Contender(
        "nats unsynced",
        "nats unsynced",
        "nats",
        "file storage, replicas 1: NOT flushed before the ack",
        is_equal=False,
    ),
)


@dataclass
class Service:
    """A server that runs."""

    port: int
    process: subprocess.Popen[bytes]
    clean_up: Sequence[str] = ()
    environment: Mapping[str, str] | None = None

    def stop(self) -> None:
        """End it with all its processes."""
        for how in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, how)
                self.process.wait(_STOP_S)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
            break
        if self.clean_up:
            subprocess.run(self.clean_up, env=self.environment, capture_output=True, check=False)


async def start(service: str, directory: Path, core: int) -> Service:
    """Start a contender's server, pinned to a core, with its data in an empty directory, and wait until it answers.

    Raises:
        Missing: It is not installed, or can't do what is asked of it.
    """
    starters = {"redis": _redis, "rabbitmq": _rabbitmq, "nats": _nats, "nats unsynced": _nats_unsynced}
    started = starters[service](directory, _free_port(), core)
    deadline = time.monotonic() + _START_S
    while not _answers(started.port):
        if started.process.poll() is not None or time.monotonic() > deadline:
            started.stop()
            raise Missing(f"{service} did not start: {_tail(directory / 'log')}")
        await asyncio.sleep(0.1)
    return started


@contextmanager
def postgres() -> Iterator[PostgresServer]:
    """Run a PostgreSQL server with its data in a temporary folder; it shares the cores of all.

    Raises:
        Missing: It is not installed.
    """
    if not any(shutil.which("postgres", path=str(one)) for one in ("/usr/local/bin", *_POSTGRES.glob("*/bin"))):
        raise Missing("PostgreSQL is not installed")
    server = PostgresServer.make()
    try:
        server.start()
        yield server
    finally:
        server.remove()


def require(contender: Contender) -> None:
    """Raise `Missing` if the Python package is not there through which a contender is used."""
    if contender.client and find_spec(contender.client) is None:
        raise Missing(f"the Python package {contender.client} is not installed (make bench-queue installs it)")


def _redis(directory: Path, port: int, core: int) -> Service:
    command = [_program("redis-server"), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(directory)]
    command += ["--appendonly", "yes", "--appendfsync", "always", "--save", "", "--maxclients", "4000"]
    return _spawn(command, directory, port, core)


def _nats(directory: Path, port: int, core: int) -> Service:
    return _start_nats(directory, port, core, "sync_interval: always")


def _nats_unsynced(directory: Path, port: int, core: int) -> Service:
    return _start_nats(directory, port, core, "")


def _start_nats(directory: Path, port: int, core: int, sync: str) -> Service:
    program = _program("nats-server")
    config = directory / "nats.conf"
    config.write_text(f'listen: "127.0.0.1:{port}"\njetstream {{\n  store_dir: "{directory}"\n  {sync}\n}}\n')
    checked = subprocess.run([program, "-t", "-c", str(config)], capture_output=True, text=True, check=False)
    if checked.returncode:
        release = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.strip()
        raise Missing(f"{release} can't flush before its ack ({checked.stderr.strip().rpartition(':')[2].strip()})")
    return _spawn([program, "-c", str(config)], directory, port, core)


def _rabbitmq(directory: Path, port: int, core: int) -> Service:
    if not Path(_RABBITMQ).exists():
        raise Missing(f"{_RABBITMQ} is not installed")
    (directory / "plugins").write_text("[].\n")
    (directory / "rabbitmq.conf").write_text(
        "disk_free_limit.absolute = 100MB\nlog.console = true\nlog.file = false\n"
    )
    epmd = str(_free_port())
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "ERL_EPMD_PORT": epmd,
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": "bench@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(_free_port()),
        "RABBITMQ_MNESIA_BASE": str(directory / "data"),
        "RABBITMQ_LOG_BASE": str(directory),
        "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
        "RABBITMQ_PID_FILE": str(directory / "pid"),
        # Not to spin while it waits: that would take the core from whoever is measured beside it.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none",
    }
    return _spawn([_RABBITMQ], directory, port, core, environment, clean_up=["epmd", "-kill"])


def _spawn(
    command: Sequence[str],
    directory: Path,
    port: int,
    core: int,
    environment: Mapping[str, str] | None = None,
    clean_up: Sequence[str] = (),
) -> Service:
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            ["taskset", "-c", str(core), *command],
            cwd=directory,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Service(port, process, clean_up, environment)


def _program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/bin")
    if found is None:
        raise Missing(f"{name} is not installed")
    return found


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 0.5).close()
    except OSError:
        return False
    return True


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-300:].strip() if log.exists() else "it logged nothing"
