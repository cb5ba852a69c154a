"""Everyone at once: thousands of clients come back to a server that was killed, each with events to catch up on.

The clients are bare WebSockets in two further processes on the same machine, so the times are what clients and server
need together. In between a newcomer connects again and again and makes a round trip: it must not have to wait until
everyone else is served. At the end the server is stopped gracefully, and the clients tell when each was let go.

What the server does is not helped along: the store is an SQLite file, options are the defaults but ``drain_s``. With
``--store postgres`` it is a PostgreSQL server, which shares the cores, and each of ``--workers`` is a node.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

import waypost
from bench.queue.servers import postgres
from bench.speed.process import cpu_s, processes
from waypost.storage.specs import is_database
from waypost.storage.sqlite import reader as sqlite_reader

io = waypost.Server(drain_s=float(os.environ.get("BENCH_DRAIN_S", "2")))

_REPOSITORY = Path(__file__).parent.parent
_CROWDS = 2
_LINE_LIMIT = 1 << 26
_disk_reads = 0


def _count_disk_reads() -> None:
    """Count what the store reads from its file beside the writer: what its memory does not have."""
    query = sqlite_reader.Reader._query  # noqa: SLF001

    def counting(self: sqlite_reader.Reader, what: Any) -> Any:
        global _disk_reads  # noqa: PLW0603
        _disk_reads += 1
        return query(self, what)

    sqlite_reader.Reader._query = counting  # type: ignore[method-assign, assignment]  # noqa: SLF001


@io.event
async def publish(socket: waypost.Socket, first: int, last: int, padding: int) -> None:
    """Emit numbered events to everyone."""
    text = "x" * padding
    await asyncio.gather(*(io.emit("tick", number, text) for number in range(first, last)))


@io.event
async def numbers(socket: waypost.Socket) -> dict[str, Any]:
    """Tell what the server has counted, and how often it read its file."""
    counters = io.state().counters
    return {
        "recoveries": counters.recoveries,
        "replayed": counters.replayed_events,
        "slow": counters.slow_clients,
        "disk_reads": _disk_reads,
    }


class Bench:
    """A server and its crowds, each in a process of its own."""

    def __init__(self, store: str, drain_s: float, workers: int) -> None:
        self._store = store
        self._workers = workers
        # The parent of workers reads the file, and counts nothing.
        self.counts_reads = workers == 1 and not is_database(store)
        self.worker_pids: list[int] = []
        self._environment = {**os.environ, "BENCH_DRAIN_S": str(drain_s)}
        self._crowds: list[asyncio.subprocess.Process] = []
        self.server: asyncio.subprocess.Process
        self.port = 0

    async def start(self) -> None:
        """Start the server, on the port it had before."""
        command = (
            "-m",
            "waypost",
            "serve",
            "bench.recovery:io",
            "--port",
            str(self.port),
            "--store",
            self._store,
            "--workers",
            str(self._workers),
        )
        self.server = await asyncio.create_subprocess_exec(
            sys.executable, *command, cwd=_REPOSITORY, env=self._environment, stdout=asyncio.subprocess.PIPE
        )
        assert self.server.stdout is not None
        line = (await self.server.stdout.readline()).decode()
        self.port = int(line.split("listening on http://")[1].split()[0].rpartition(":")[2])
        _, _, pids = line.partition("(pids ")
        self.worker_pids = [int(pid) for pid in pids.rstrip(")\n").split(", ") if pid]

    async def kill(self, *, only_one: bool) -> None:
        """Kill one worker, which its parent replaces, or the server, and then start it again."""
        if only_one:
            os.kill(self.worker_pids[0], signal.SIGKILL)
            return
        self.server.kill()
        await self.server.wait()

    async def gather_crowds(self, clients: int) -> None:
        """Start the processes that host the clients."""
        for index in range(_CROWDS):
            count = clients // _CROWDS + (index < clients % _CROWDS)
            self._crowds.append(
                await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "bench.crowd", str(count), "127.0.0.1", str(self.port)),
                    cwd=_REPOSITORY,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    limit=_LINE_LIMIT,
                )
            )

    async def tell(self, command: str) -> list[Any]:
        """Have all crowds do something; return their reports."""
        return list(await asyncio.gather(*(self._tell(crowd, command) for crowd in self._crowds)))

    async def _tell(self, crowd: asyncio.subprocess.Process, command: str) -> Any:
        assert crowd.stdin is not None
        assert crowd.stdout is not None
        crowd.stdin.write(f"{command}\n".encode())
        return json.loads(await crowd.stdout.readline())

    def end(self) -> None:
        """Kill whatever still runs."""
        for process in (*self._crowds, self.server):
            if process.returncode is None:
                process.kill()


async def call(port: int, event: str, *args: Any) -> Any:
    """Connect a newcomer, make one round trip, and leave."""
    uri = f"ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket"
    async with connect(uri, compression=None, ping_interval=None, open_timeout=60) as connection:
        await connection.recv()
        await connection.send("40")
        while not str(await connection.recv()).startswith("40"):
            pass
        await connection.send("421" + json.dumps([event, *args]))
        while not (packet := str(await connection.recv())).startswith("431"):
            pass
        return (json.loads(packet[3:]) or [None])[0]


async def newcomers(port: int, latencies: list[tuple[float, float]]) -> None:
    """Be a newcomer again and again until cancelled; note when each began and how long it took."""
    while True:
        started = time.time()
        try:
            await call(port, "numbers")
        except (OSError, WebSocketException, EOFError):
            await asyncio.sleep(0.02)  # nobody is there yet
            continue
        latencies.append((started, time.time() - started))
        await asyncio.sleep(0.05)


def peak_rss_bytes(pid: int) -> int:
    """Return the most memory that a process and those that it has started ever had in use (Linux)."""
    lines = [line for one in processes(pid) for line in Path(f"/proc/{one}/status").read_text().splitlines()]
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


@dataclass(frozen=True)
class Return:
    """What was seen when everyone came back at once; times in seconds after the server was killed."""

    reports: Sequence[Any]
    listening: float
    connected: Sequence[float]
    caught_up: Sequence[float]
    newcomers: Sequence[float]
    numbers: Any
    idle_rss: int
    peak_rss: int
    cpu_s: float
    counts_reads: bool

    def total(self, name: str) -> int:
        """Add up a number of all crowds."""
        return sum(report[name] for report in self.reports)

    def print(self, clients: int, missed: int) -> None:
        """Put it into words."""
        reasons = {reason: count for report in self.reports for reason, count in report["reasons"].items()}
        print(f"recovered           {self.total('recovered'):,} of {clients:,}   {reasons or ''}")
        print(f"lost events         {self.total('missing'):,}; clients with a gap or double {self.total('wrong'):,}")
        print(f"replayed            {self.numbers['replayed']:,} events, {self.numbers['slow']} clients cut as slow")
        print(f"server listens      {self.listening:8.2f} s after the kill")
        print(f"connected           {spread(self.connected)}")
        print(f"caught up           {spread(self.caught_up)}")
        rate = clients * missed / (max(self.caught_up) - self.listening)
        print(f"                    {rate:8,.0f} events/s from listening on; server CPU {self.cpu_s:.1f} s")
        print(f"newcomers meanwhile {len(self.newcomers):,}: {spread(self.newcomers)}")
        print(f"connections refused {self.total('attempts_failed'):,} times before the server listened")
        print(f"server memory       {self.idle_rss >> 20} MiB before, at most {self.peak_rss >> 20} MiB")
        if self.counts_reads:
            print(f"reads of the file   {self.numbers['disk_reads']:,}; all others were served from memory")

    def holds(self, clients: int) -> bool:
        """Tell whether everyone is back and nothing was lost or doubled."""
        return self.total("recovered") == clients and self.total("wrong") == 0


def spread(values: Sequence[float]) -> str:
    """Say how values in seconds are spread."""
    if not values:
        return "none"
    ordered = sorted(values)
    first, median, late, last = (ordered[round((len(ordered) - 1) * share)] for share in (0, 0.5, 0.99, 1))
    return f"first {first:.3f} s, median {median:.3f} s, 99% {late:.3f} s, last {last:.3f} s"


async def come_back(bench: Bench, expected: int, limit_s: float, *, kills_one: bool) -> Return:
    """Kill the server and start it again, or kill one worker, and let everyone come at once."""
    await bench.kill(only_one=kills_one)
    killed = time.time()
    latencies: list[tuple[float, float]] = []
    coming = asyncio.create_task(bench.tell(f"come {expected} {limit_s}"))
    if not kills_one:
        await bench.start()
    listening = time.time() - killed
    idle_rss = peak_rss_bytes(bench.server.pid)
    visiting = asyncio.create_task(newcomers(bench.port, latencies))
    reports = await coming
    visiting.cancel()
    caught_up = [at - killed for report in reports for at in report["caught_up_at"] if at]
    return Return(
        reports=reports,
        listening=listening,
        connected=[at - killed for report in reports for at in report["connected_at"] if at],
        caught_up=caught_up or [limit_s],
        newcomers=[took for began, took in latencies if began < killed + max(caught_up, default=limit_s)],
        numbers=await call(bench.port, "numbers"),
        idle_rss=idle_rss,
        peak_rss=peak_rss_bytes(bench.server.pid),
        cpu_s=cpu_s(bench.server.pid),
        counts_reads=bench.counts_reads,
    )


async def stop(bench: Bench) -> str:
    """Stop the server gracefully and say how it let its clients go."""
    watching = asyncio.create_task(bench.tell("ended 60"))
    stopped = time.time()
    bench.server.send_signal(signal.SIGTERM)
    code = await bench.server.wait()
    ended = [at - stopped for report in await watching for at in report]
    return f"graceful stop       {time.time() - stopped:8.2f} s, exit code {code}; let go: {spread(ended)}"


@contextmanager
def store_of(kind: str) -> Iterator[str]:
    """Give the name of an empty store, which is gone after the block."""
    if kind == "sqlite":
        with tempfile.TemporaryDirectory() as directory:
            yield str(Path(directory) / "bench.db")
        return
    with postgres() as engine:
        yield engine.url(engine.create_database())


async def main(options: argparse.Namespace) -> bool:
    """Measure and print; returns whether the promise held."""
    live = options.live
    with store_of(options.store) as store:
        bench = Bench(store, options.drain, options.workers)
        await bench.start()
        try:
            await bench.gather_crowds(options.clients)
            started = time.time()
            reports = await bench.tell(f"come 0 {options.limit}")
            assert sum(report["connected"] for report in reports) == options.clients, "not all could connect at all"
            print(f"{options.clients:,} clients entered in {time.time() - started:.2f} s", flush=True)
            await call(bench.port, "publish", 0, live, options.padding)
            await bench.tell("leave")
            await call(bench.port, "publish", live, live + options.missed, options.padding)
            back = await come_back(bench, live + options.missed, options.limit, kills_one=options.kill == "one")
            back.print(options.clients, options.missed)
            print(await stop(bench), flush=True)
            return back.holds(options.clients)
        finally:
            bench.end()


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Thousands of clients come back at once.")
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--live", type=int, default=3, help="events that everyone gets before the cut")
    parser.add_argument("--missed", type=int, default=50, help="events that everyone misses")
    parser.add_argument("--padding", type=int, default=200, help="bytes in each event")
    parser.add_argument("--drain", type=float, default=2, help="seconds over which the stop spreads its disconnects")
    parser.add_argument("--limit", type=float, default=60, help="seconds until it is given up")
    parser.add_argument("--workers", type=int, default=1, help="worker processes")
    parser.add_argument("--store", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--kill", choices=("all", "one"), default="all", help="the server, or one of several workers")
    return parser.parse_args()


if __name__ == "__main__":
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sys.exit(0 if asyncio.run(main(parse())) else 1)
else:
    _count_disk_reads()
