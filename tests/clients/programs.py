"""The client programs: how each is built, started, and listened to."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.support.require import skip_or_fail
from tests.support.waiting import until

__all__ = ["CLIENTS", "PROGRAMS", "Kind", "Lines", "build", "run_program"]

PROGRAMS = Path(__file__).parent / "programs"
_BUILD_S = 900


@dataclass(frozen=True)
class Kind:
    """A client, in the runtime that it is tested with.

    Attributes:
        name: What the table of docs/compatibility.md calls it.
        command: Its program, in the folder; a runtime that is not installed there is looked for on the machine.
        folder: The folder of ``programs/`` that is built for it.
        recovers: Whether it gets what it missed after a kill of the server.
        acknowledges: Whether it can acknowledge an event of the server.
        steps: The lines that its first connect brings.
        after: What its command line has after the name.
    """

    name: str
    command: tuple[str, ...]
    folder: str
    recovers: bool = False
    acknowledges: bool = True
    steps: tuple[str, ...] = ("echo", "asked", "answered", "namespace")
    after: tuple[str, ...] = ()


def _javascript(runtime: tuple[str, ...], package: str, name: str, *, recovers: bool) -> Kind:
    return Kind(name, (*runtime, "main.mjs"), "js", recovers=recovers, after=(package,))


_BUN = ("node_modules/.bin/bun", "run")
_DENO = ("node_modules/.bin/deno", "run", "--allow-all", "--node-modules-dir=manual", "--no-lock")

CLIENTS = (
    _javascript(("node",), "socket.io-client", "JavaScript 4.8 in Node", recovers=True),
    _javascript(("node",), "socket.io-client-4-0", "JavaScript 4.0 in Node", recovers=False),
    _javascript(("node",), "socket.io-client-3", "JavaScript 3.1 in Node", recovers=False),
    _javascript(("node",), "socket.io-client-2", "JavaScript 2.5 in Node", recovers=False),
    _javascript(_BUN, "socket.io-client", "JavaScript 4.8 in Bun", recovers=True),
    _javascript(_DENO, "socket.io-client", "JavaScript 4.8 in Deno", recovers=True),
    Kind("Java 2.1.2", ("java", "-cp", "target/scenario-1.jar:target/lib/*", "Scenario"), "java"),
    Kind("Go (zishang520) 3.0.6", ("./scenario",), "go", recovers=True),
    Kind(
        "Rust (rust_socketio) 0.6",
        ("target/release/scenario",),
        "rust",
        acknowledges=False,
        steps=("echo",),
    ),
    Kind("python-socketio, asyncio", (sys.executable, "scenario.py"), "python", after=("async",)),
    Kind("python-socketio, blocking", (sys.executable, "scenario.py"), "python", after=("sync",)),
)

_BUILDS = {
    "js": ("npm", ("npm", "ci", "--no-audit", "--no-fund"), "node_modules/.bin"),
    "java": ("mvn", ("mvn", "-q", "-B", "package"), "target/scenario-1.jar"),
    "go": ("go", ("go", "build", "-o", "scenario", "."), "scenario"),
    "rust": ("cargo", ("cargo", "build", "--release", "--quiet"), "target/release/scenario"),
}


@cache
def build(folder: str) -> None:
    """Build the programs of a folder, once; skip the test where its tools are missing, and fail there on CI."""
    if folder not in _BUILDS:
        return
    tool, command, made = _BUILDS[folder]
    where = PROGRAMS / folder
    if (where / made).exists() and "CI" not in os.environ:
        return
    if shutil.which(tool) is None:
        skip_or_fail(f"{tool} is not installed")
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=_BUILD_S, check=False)
    assert done.returncode == 0, f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}"


class Lines:
    """The lines that a program has printed."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, line: str) -> None:
        """Take the next line."""
        self._lines.append(line.strip())

    async def says(self, lines: Sequence[str], timeout_s: float = 60) -> None:
        """Wait until it has printed all of these lines, and none that says that something failed."""
        await until(lambda: self._failed() or set(lines) <= set(self._lines), f"{lines} of {self._lines}", timeout_s)
        assert not self._failed(), self._lines

    async def connected(self, times: int) -> None:
        """Wait until it has connected so many times."""
        await until(lambda: self._lines.count("connected") >= times, f"connect {times} of {self._lines}", 60)

    def numbers(self, word: str) -> list[int]:
        """Return the numbers that came with an event, in the order in which they came."""
        return [int(line.split()[1]) for line in self._lines if line.startswith(f"{word} ")]

    def _failed(self) -> bool:
        return any(line.startswith("failed") for line in self._lines)


@asynccontextmanager
async def run_program(kind: Kind, url: str, mode: str, name: str) -> AsyncIterator[Lines]:
    """Run the program of a client, and end it and all that it has started at the end."""
    where = PROGRAMS / kind.folder
    program, *arguments = kind.command
    if (where / program).exists():
        program = str(where / program)
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        url,
        mode,
        name,
        *kind.after,
        cwd=where,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    lines = Lines()
    reader = asyncio.create_task(_read(process, lines))
    try:
        yield lines
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        await reader


async def _read(process: asyncio.subprocess.Process, lines: Lines) -> None:
    assert process.stdout is not None
    async for line in process.stdout:
        lines.add(line.decode(errors="replace"))
