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
from fcntl import LOCK_EX, flock
from functools import cache
from pathlib import Path

from tests.support.require import skip_or_fail
from tests.support.waiting import until

__all__ = ["CLIENTS", "PROGRAMS", "Kind", "Lines", "build", "run_program"]

PROGRAMS = Path(__file__).parent / "programs"
_BUILD_S = 900


@dataclass(frozen=True)
class Kind:
    """A client, in the runtime that it is tested with: a row of the table in docs/compatibility.md.

    Attributes:
        client: The client, with its version.
        runtime: What runs it.
        command: Its program, in the folder; a runtime that is not installed there is looked for on the machine.
        folder: The folder of ``programs/`` that is built for it.
        transports: The transports that it is tested over.
        recovers: Whether it gets what it missed after a kill of the server.
        acknowledges: Whether it can acknowledge an event of the server.
        steps: The lines that its first connect brings.
        after: What its command line has after the name.
    """

    client: str
    runtime: str
    command: tuple[str, ...]
    folder: str
    transports: tuple[str, ...] = ("polling", "websocket", "upgrade")
    recovers: bool = False
    acknowledges: bool = True
    steps: tuple[str, ...] = ("echo", "asked", "answered", "namespace")
    after: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The client and its runtime."""
        return f"{self.client} in {self.runtime}"


def _javascript(
    version: str, runtime: str, command: tuple[str, ...], package: str, *, recovers: bool = False
) -> Kind:
    program = (*command, "main.mjs")
    return Kind(f"JavaScript {version}", runtime, program, "js", recovers=recovers, after=(package,))


_NODE = ("node",)
_BUN = ("node_modules/.bin/bun", "run")
_DENO = ("node_modules/.bin/deno", "run", "--allow-all", "--node-modules-dir=manual", "--no-lock")
_JAVA = ("java", "-cp", "target/scenario-1.jar:target/lib/*", "Scenario")
_PYTHON = (sys.executable, "scenario.py")

CLIENTS = (
    _javascript("4.8", "Node", _NODE, "socket.io-client", recovers=True),
    _javascript("4.0", "Node", _NODE, "socket.io-client-4-0"),
    _javascript("3.1", "Node", _NODE, "socket.io-client-3"),
    _javascript("2.5", "Node", _NODE, "socket.io-client-2"),
    _javascript("4.8", "Bun", _BUN, "socket.io-client", recovers=True),
    _javascript("4.8", "Deno", _DENO, "socket.io-client", recovers=True),
    Kind("Java 2.1 (official)", "Java", _JAVA, "java"),
    # Over polling it sends only between two polls, which takes longer than the scenario; that is not tested.
    Kind("Go 3.0 (zishang520)", "Go", ("./scenario",), "go", transports=("websocket", "upgrade"), recovers=True),
    Kind(
        "Rust 0.6 (rust_socketio)",
        "Rust",
        ("target/release/scenario",),
        "rust",
        acknowledges=False,
        steps=("echo",),
    ),
    Kind("python-socketio 5, `AsyncClient`", "Python", _PYTHON, "python", after=("async",)),
    Kind("python-socketio 5, `Client`", "Python", _PYTHON, "python", after=("sync",)),
)

_BUILDS = {
    "js": ("npm", ("npm", "ci", "--no-audit", "--no-fund"), "node_modules/.bin"),
    "java": ("mvn", ("mvn", "-q", "-B", "package"), "target/scenario-1.jar"),
    "go": ("go", ("go", "build", "-o", "scenario", "."), "scenario"),
    "rust": ("cargo", ("cargo", "build", "--release", "--quiet"), "target/release/scenario"),
}
_BUILT = ".built"
_SOURCES = ("package-lock.json", "pom.xml", "*.java", "go.mod", "go.sum", "*.go", "Cargo.toml", "*.rs")


@cache
def build(folder: str) -> None:
    """Build the programs of a folder, if a source is newer; skip the test without its tools, and fail there on CI."""
    if folder not in _BUILDS:
        return
    tool, command, made = _BUILDS[folder]
    where = PROGRAMS / folder
    # The tests run in several processes; the first one builds.
    with (where / ".lock").open("w") as lock:
        flock(lock, LOCK_EX)
        if (where / made).exists() and _is_built(where):
            return
        if shutil.which(tool) is None:
            skip_or_fail(f"{tool} is not installed")
        done = subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=_BUILD_S, check=False)
        assert done.returncode == 0, f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}"
        (where / _BUILT).touch()


def _is_built(where: Path) -> bool:
    """Return whether the last build succeeded, and no source is newer."""
    if not (where / _BUILT).exists():
        return False
    built = (where / _BUILT).stat().st_mtime
    sources = [file for pattern in _SOURCES for file in (*where.glob(pattern), *where.glob(f"src/{pattern}"))]
    return all(file.stat().st_mtime <= built for file in sources)


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
