"""A server in a process of its own, which can be stopped, killed and started again on the same port."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.nursery import Child, nursery

REPOSITORY = Path(__file__).parent.parent.parent
OPTIONS_VARIABLE = "TESTED_SERVER_OPTIONS"
"""Not one of ``WAYPOST_…``: ``waypost serve`` warns of such a name, which would be in the log of each server."""

WORKERS_VARIABLE = "WAYPOST_TEST_WORKERS"
"""How many workers the servers of tests have; not set, each is one process."""

HEARTBEAT: dict[str, Any] = {"ping_interval_s": 3, "ping_timeout_s": 7}
"""For servers whose clients are cut at any moment. An official client has paused polling at its upgrade's end; if the
WebSocket dies just then, it has no connection left and notices only by the heartbeat: that must be before a test
gives up waiting."""

_WAYPOST = [sys.executable, "-m", "waypost"]
# On a machine with too much to do, two workers need more than a minute to import what they need.
_START_S = 240.0
_STOP_S = 60.0
_LISTENING = re.compile(r"(?:listening on|Listening at:|Uvicorn running on) (http://127\.0\.0\.1:\d+)")
_TRACEBACK = "Traceback (most recent call last)"
_FORBIDDEN = (
    "was never retrieved",
    "was never awaited",
    "Task was destroyed",
    "Exception in ASGI application",
)
# Below the range that the kernel takes client ports from: a restart must find its port free.
_PORTS = range(15_000, 32_000)


def free_port() -> int:
    """Return a port that nobody listens on, and no outgoing connection will be given."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class ServerProcess:
    """A server under test; start it with `start`, end it with `stop` or `kill`.

    Attributes:
        url: Where it listens, the same over restarts.
        starts: How many times it was started.
        stop_code: Its exit code after SIGTERM; uvicorn's own is the signal.
        tracebacks_allowed: How many the application under test has earned by failing on purpose.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        options: Mapping[str, Any] | None = None,
        program: str = sys.executable,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Say how to start it.

        Args:
            command: Its arguments after the program; ``{port}`` stands for the port.
            log: The file that gets all it prints.
            options: Options of the ``Server`` in tests/interop/app.py.
            program: What runs it; Python, unless told otherwise.
            environment: Variables for it alone. With them it imports all by itself, as the loader may need them.
        """
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.starts = 0
        self.stop_code = 0
        self.tracebacks_allowed = 0
        self._command = [program, *(part.format(port=self.port) for part in command)]
        self._log = log
        self._environment = {
            **{name: value for name, value in os.environ.items() if name != WORKERS_VARIABLE},
            OPTIONS_VARIABLE: json.dumps(options or {}),
            "PYTHONUNBUFFERED": "1",
            **(environment or {}),
        }
        self._is_forked = self._command[:3] == _WAYPOST and not environment
        self._process: subprocess.Popen[bytes] | Child | None = None
        self._offset = 0
        self._checked = 0

    @classmethod
    def waypost(
        cls,
        log: Path,
        store: str = "memory:",
        options: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> ServerProcess:
        """Return the server of tests/interop/app.py as the command line runs it, with WORKERS_VARIABLE's workers."""
        command = ("-m", "waypost", "serve", "tests.interop.app:io", "--port", "{port}", "--store", store)
        workers = os.environ.get(WORKERS_VARIABLE)
        arguments = (*command, "--workers", workers) if workers else command
        return cls(arguments, log, options, environment=environment)

    def runs(self, application: str) -> bool:
        """Tell whether it serves an application, by the end of its ``module:name``."""
        return any(part.endswith(application) for part in self._command)

    def alive(self) -> bool:
        """Tell whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process that was started last."""
        assert self._process is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How the process ended that was started last; ``None`` while it lives."""
        assert self._process is not None
        return self._process.poll()

    def memory_bytes(self) -> int:
        """Return how much memory the process has in use."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    async def start(self) -> None:
        """Start the process and wait until it listens."""
        assert not self.alive()
        self._spawn()
        deadline = time.monotonic() + _START_S
        while not _LISTENING.search(self._since(self._offset)):
            if not self.alive() or time.monotonic() > deadline:
                await self.kill()
                raise AssertionError(f"the server did not start:\n{self.log()}")
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """Stop it gracefully."""
        code = await self._end(signal.SIGTERM)
        assert code == self.stop_code, f"exit code {code} after SIGTERM:\n{self.log()}"

    async def kill(self) -> None:
        """End it with SIGKILL, wherever it is."""
        if self.alive():
            await self._end(signal.SIGKILL)

    async def restart(self, how: str) -> None:
        """End it by ``"stop"`` or ``"kill"`` and start it again on the same port and store."""
        await (self.stop() if how == "stop" else self.kill())
        await self.start()

    def log(self) -> str:
        """Return all it has printed."""
        return self._since(0)

    def log_position(self) -> int:
        """Return where its log ends now, for `log_since`."""
        return self._log.stat().st_size

    def log_since(self, position: int) -> list[str]:
        """Return the lines printed after a `log_position`."""
        return [line for line in self._since(position).splitlines() if line.strip()]

    def check_log(self) -> None:
        """Fail if it logged a traceback, or a task that nobody looked after, since it was last checked."""
        log = self._since(self._checked)
        self.skip_log()
        allowed, self.tracebacks_allowed = self.tracebacks_allowed, 0
        for text in _FORBIDDEN:
            assert text not in log, f"{text!r} in the server's log:\n{log}"
        assert log.count(_TRACEBACK) <= allowed, f"a traceback in the server's log:\n{log}"

    def skip_log(self) -> None:
        """Leave what it has logged so far unchecked."""
        self._checked = self.log_position()

    def _spawn(self) -> None:
        self._offset = self._log.stat().st_size if self._log.exists() else 0
        self.starts += 1
        if self._is_forked:
            self._process = nursery().start(self._command[3:], self._environment, self._log)
            return
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=REPOSITORY, env=self._environment, stdout=log, stderr=subprocess.STDOUT
            )

    async def _end(self, how: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(how)
        deadline = time.monotonic() + _STOP_S
        while self._process.poll() is None:
            if time.monotonic() > deadline:
                self._process.kill()
                self._process.wait()
                raise AssertionError(f"still running {_STOP_S:g} s after {how.name}:\n{self.log()}")
            await asyncio.sleep(0.01)
        assert self._process.returncode is not None
        return self._process.returncode

    def _since(self, position: int) -> str:
        return self._log.read_bytes()[position:].decode(errors="replace")
