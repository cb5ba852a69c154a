"""Runs the service in a process of its own, and restarts it when it dies."""

from __future__ import annotations

import asyncio
import random
import socket
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from waypost.demo.supervision import Supervision
from waypost.errors import WaypostError

__all__ = ["ServiceUnavailable", "Supervisor"]

_HOST = "127.0.0.1"
_APPLICATION = "waypost.demo.service:app"
_STARTED = b" listening on "
_STOP_TIMEOUT_S = 10.0
# Below the kernel's range of client ports: a restart must find its port free.
_PORTS = range(15_000, 32_000)


class ServiceUnavailable(WaypostError):
    """The service ended before it accepted a connection; a restart would not help.

    Attributes:
        exit_code: The process's exit code.
    """

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code

    def __str__(self) -> str:
        return f"the service did not start: its process ended with {self.exit_code}; its reason stands above"


class Supervisor:
    """Keeps the service running; an asynchronous context manager that stops the service at its end.

    Args:
        directory: The directory of the service's database.
        port: The service's port; 0 takes a free port and keeps it over restarts.
        log_level: The service's log level for stderr.
        on_start: Called when the service accepts connections, with the run's number, the process's id and the seconds
            since the process before it ended (0 for the first).
        on_death: Called with the process's exit code when it died without a stop; a negative code is a signal.
        store: The store's URL; ``None`` takes a file in the directory.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int,
        log_level: str,
        on_start: Callable[[int, int, float], None],
        on_death: Callable[[int], None],
        store: str | None = None,
    ) -> None:
        self.port = port or _free_port()
        self._store = store or str(directory / "parcels.db")
        self._log_level = log_level
        self._on_start = on_start
        self._on_death = on_death
        self._run = -1
        self._process: Process | None = None
        self._stopping = False
        self._ended = False
        self._keeper: asyncio.Task[int] | None = None
        self._changed = asyncio.Condition()

    @property
    def pid(self) -> int:
        """The process's id."""
        if self._process is None:
            raise RuntimeError("the service is not running")
        return self._process.pid

    @property
    def url(self) -> str:
        """The service's address."""
        return f"http://{_HOST}:{self.port}"

    async def __aenter__(self) -> Self:
        """Start the service, and return when it accepts connections."""
        self._keeper = asyncio.create_task(self._keep_running())
        try:
            await self.listening(0)
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the service."""
        await self.stop()

    async def listening(self, run: int) -> None:
        """Wait until the service accepts connections in this run or a later one.

        Args:
            run: 0 for the first start, 1 for the first restart, and so on.

        Raises:
            ServiceUnavailable: The service did not start.
        """
        if self._keeper is None:
            raise RuntimeError("the supervisor was not started")
        async with self._changed:
            await self._changed.wait_for(lambda: self._run >= run or self._ended)
        if self._run < run:
            raise ServiceUnavailable(await self._keeper)

    def kill(self) -> int:
        """Kill the service's process with SIGKILL, as ``kill -9`` does.

        Returns:
            The process's id.
        """
        pid = self.pid
        if self._process is not None:
            self._process.kill()
        return pid

    async def stop(self) -> int:
        """Stop the service gracefully; kill it if that takes longer than 10 s.

        Returns:
            The process's exit code; 0 after a graceful stop.
        """
        self._stopping = True
        if self._keeper is None:
            return 0
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
        done, _ = await asyncio.wait({self._keeper}, timeout=_STOP_TIMEOUT_S)
        if not done:
            self.kill()
        return await self._keeper

    async def _keep_running(self) -> int:
        run, died_at = 0, None
        try:
            while True:
                process = await self._spawn(run)
                started = await self._wait_for_start(process)
                if started:
                    outage_s = 0.0 if died_at is None else time.monotonic() - died_at
                    await self._started(run, process.pid, outage_s)
                code = await _drained(process)
                # A process that exited by itself before it accepted connections would exit again.
                if self._stopping or (not started and code >= 0):
                    return code
                died_at = time.monotonic()
                self._on_death(code)
                run += 1
        finally:
            async with self._changed:
                self._ended = True
                self._changed.notify_all()

    async def _spawn(self, run: int) -> Process:
        arguments = ["-m", "waypost", "serve", _APPLICATION, "--host", _HOST, "--port", str(self.port)]
        arguments += ["--store", self._store, "--log-level", self._log_level]
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            stdin=PIPE,
            stdout=PIPE,
            env=Supervision(run).environment(),
            # Ctrl+C in the terminal must reach only the supervisor, which then stops the service.
            start_new_session=True,
        )
        if self._stopping:
            self._process.terminate()
        return self._process

    async def _wait_for_start(self, process: Process) -> bool:
        while line := await _output(process).readline():
            if _STARTED in line:
                return True
        return False

    async def _started(self, run: int, pid: int, outage_s: float) -> None:
        self._on_start(run, pid, outage_s)
        async with self._changed:
            self._run = run
            self._changed.notify_all()


def _output(process: Process) -> asyncio.StreamReader:
    assert process.stdout is not None, "it was asked for"
    return process.stdout


async def _drained(process: Process) -> int:
    while await _output(process).readline():
        pass
    return await process.wait()


def _free_port() -> int:
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_HOST, port))
            except OSError:
                continue
            return port
