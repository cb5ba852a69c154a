"""Waypost's client beside python-socketio's: acknowledged calls, received events, memory.

Both meet the same server, Node's own socket.io, over a WebSocket on the loopback. The server is pinned to one core
and the client to another; the libraries take turns, round by round. Figures are medians with the smallest and the
largest round; what counts are the ratios. Beside each rate stands how much of the processor's time one operation has
taken, which is steadier on a machine that is shared, and does not count how long the server takes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import statistics
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from bench.client_load import LIBRARIES
from tests.support.server_process import free_port

_REPOSITORY = Path(__file__).parent.parent
_UNITS = {
    "ask": ("calls/s, 100 in flight", "CPU us a call"),
    "listen": ("events/s received", "CPU us an event"),
    "crowd": ("bytes a client",),
}


def pinned(core: int) -> list[str]:
    """Give the words before a command that keep it on one core, where there are two and the tool is there."""
    cores = os.cpu_count() or 1
    return ["taskset", "-c", str(core)] if cores > 1 and shutil.which("taskset") else []


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    """Run Node's server on the first core; gives its URL."""
    port = free_port()
    script = str(_REPOSITORY / "bench" / "js" / "client_server.js")
    process = await asyncio.create_subprocess_exec(
        *pinned(0), "node", script, str(port), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"listening\n"
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def measure(library: str, work: str, url: str, seconds: float, clients: int) -> tuple[float, ...]:
    """Run one round in a process of its own on the second core; returns its figures, in the order of `_UNITS`."""
    command = (*pinned(1), sys.executable, "-m", "bench.client_load", library, work, url)
    sizes = ("--seconds", str(seconds), "--clients", str(clients))
    process = await asyncio.create_subprocess_exec(*command, *sizes, cwd=_REPOSITORY, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0, f"{library} failed at {work}"
    found = json.loads(output)
    if work == "crowd":
        return (found["bytes_each"],)
    return found["done"] / found["seconds"], found["cpu_seconds"] / found["done"] * 1e6


def show(unit: str, figures: dict[str, list[float]]) -> None:
    """Print what the rounds of each library have shown, and the ratio of Waypost's to the other's."""
    medians = {library: statistics.median(found) for library, found in figures.items()}
    digits = 1 if medians["waypost"] < 1_000 else 0
    for library, found in figures.items():
        spread = f"({min(found):,.{digits}f} to {max(found):,.{digits}f})"
        print(f"{unit:<24} {library:<16} {medians[library]:>10,.{digits}f}  {spread}")
    print(f"{'':<24} {'ratio':<16} {medians['waypost'] / medians['python-socketio']:>10.2f}", flush=True)


async def main(rounds: int, seconds: float, clients: int) -> None:
    """Measure everything and print it."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("waypost", "python-socketio", "aiohttp"))
    print(f"{packages}; Python {platform.python_version()}, {os.cpu_count()} cores; server: Node's socket.io")
    print(f"{rounds} rounds of {seconds:g} s in turn; {clients} clients for the memory")
    async with serving() as url:
        for work, units in _UNITS.items():
            rounds_of: dict[str, list[tuple[float, ...]]] = {library: [] for library in LIBRARIES}
            for _ in range(1 if work == "crowd" else rounds):
                for library, found in rounds_of.items():
                    found.append(await measure(library, work, url, seconds, clients))
            for number, unit in enumerate(units):
                show(unit, {library: [figures[number] for figures in found] for library, found in rounds_of.items()})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Waypost's client beside python-socketio's.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--clients", type=int, default=1000)
    options = parser.parse_args()
    asyncio.run(main(options.rounds, options.seconds, options.clients))
