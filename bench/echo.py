"""A first measurement: acknowledged round trips on the loopback, in memory and with SQLite.

Each client has one call in flight: it sends an event, waits for the ack, and sends the next. With "ack" the
handler only answers; with "emit" it also emits an event to its client, which goes through the journal and, with
SQLite, to the disk before the ack. Clients and server share the machine, and the clients are Python too: so the
server's own CPU time per round trip says more than the rate.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

import waypost

io = waypost.Server()

_REPOSITORY = Path(__file__).parent.parent
_WARM_UP_S = 0.5


@io.event
async def ack(socket: waypost.Socket, *args: Any) -> tuple[Any, ...]:
    """Answer, and nothing else."""
    return args


@io.event
async def emit(socket: waypost.Socket, *args: Any) -> tuple[Any, ...]:
    """Emit an event, which is committed before this answers."""
    await socket.emit("echoed", *args)
    return args


@dataclass(frozen=True)
class Result:
    """What one measurement found.

    Attributes:
        round_trips: How many were acknowledged.
        seconds: In how long.
        server_cpu_s: The CPU time that the server process took meanwhile.
        latencies_s: How long each took, sorted.
    """

    round_trips: int
    seconds: float
    server_cpu_s: float
    latencies_s: Sequence[float]

    def line(self, store: str, event: str) -> str:
        """Put it into a row of the table."""
        median, slow = (self.latencies_s[int(len(self.latencies_s) * share)] for share in (0.5, 0.99))
        return (
            f"{store:<8} {event:<6} {self.round_trips / self.seconds:>12,.0f}"
            f" {median * 1000:>10.2f} {slow * 1000:>10.2f}"
            f" {self.server_cpu_s / self.round_trips * 1e6:>16.0f} {self.server_cpu_s / self.seconds:>10.0%}"
        )


@asynccontextmanager
async def serving(store: str) -> AsyncIterator[tuple[str, int]]:
    """Run this module's server in a process of its own; gives its address and process id."""
    command = ("-m", "waypost", "serve", "bench.echo:io", "--port", "0", "--store", store)
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=_REPOSITORY, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        line = (await process.stdout.readline()).decode()
        yield line.split("listening on http://")[1].split()[0], process.pid
    finally:
        process.terminate()
        await process.wait()


async def run_client(connection: ClientConnection, event: str, latencies: list[float]) -> None:
    """Make one round trip after the other until cancelled."""
    await connection.recv()
    await connection.send("40")
    await connection.recv()
    number = 0
    while True:
        number += 1
        started = time.perf_counter()
        await connection.send(f'42{number}["{event}",{{"number":{number}}}]')
        await answer(connection, number)
        latencies.append(time.perf_counter() - started)


async def answer(connection: ClientConnection, number: int) -> None:
    """Wait for an ack, past whatever else comes; answer heartbeats."""
    while True:
        packet = await connection.recv()
        assert isinstance(packet, str)
        if packet == "2":
            await connection.send("3")
        elif packet.startswith("43"):
            assert packet == f"43{number}[{json.dumps({'number': number}, separators=(',', ':'))}]"
            return


async def measure(address: str, pid: int, event: str, clients: int, seconds: float) -> Result:
    """Have so many clients call for so long."""
    latencies: list[float] = []
    uri = f"ws://{address}/socket.io/?EIO=4&transport=websocket"
    connections = [await connect(uri, compression=None, ping_interval=None) for _ in range(clients)]
    running = [asyncio.create_task(run_client(connection, event, latencies)) for connection in connections]
    await asyncio.sleep(_WARM_UP_S)
    latencies.clear()
    cpu, started = cpu_s(pid), time.perf_counter()
    await asyncio.sleep(seconds)
    taken, used = time.perf_counter() - started, cpu_s(pid) - cpu
    measured = sorted(latencies)
    for task in running:
        task.cancel()
    for failure in await asyncio.gather(*running, return_exceptions=True):
        assert isinstance(failure, asyncio.CancelledError), failure
    for connection in connections:
        await connection.close()
    return Result(len(measured), taken, used, measured)


def cpu_s(pid: int) -> float:
    """Return the CPU time that a process has taken, all its threads together (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def conditions(clients: int, seconds: float) -> str:
    """Say what the figures were measured with."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("waypost", "uvicorn", "websockets", "uvloop"))
    return (
        f"{packages}; Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()};"
        f" WebSocket on the loopback, {clients} clients with one call in flight each, {seconds:g} s"
    )


async def main(clients: int, seconds: float) -> None:
    """Measure everything and print it."""
    print(conditions(clients, seconds))
    print("store    event  round trips/s  median ms      99% ms  server CPU µs each  of a core")
    with tempfile.TemporaryDirectory() as directory:
        for name, store in (("memory", "memory:"), ("sqlite", str(Path(directory) / "bench.db"))):
            async with serving(store) as (address, pid):
                for event in ("ack", "emit"):
                    result = await measure(address, pid, event, clients, seconds)
                    print(result.line(name, event), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Acknowledged round trips per second.")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=3)
    options = parser.parse_args()
    asyncio.run(main(options.clients, options.seconds))
