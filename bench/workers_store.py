"""What the workers' store costs: ``python -m bench.workers_store [--seconds S] [--store PATH | memory:]``.

A host has the store open, as the parent of ``waypost serve --workers`` does, and nodes in processes of their own
append entries of 200 bytes over sockets. Each append is awaited; in flight is how many wait at a time at each node.
Each node follows the journal too, so it applies what all append. With 0 nodes, one process has the store itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import socket
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import uvloop

from waypost.storage.base import Journal, Store
from waypost.storage.choose import StoreOptions, make_store
from waypost.storage.following import Follower
from waypost.storage.host.host import StoreHost
from waypost.storage.remote.store import RemoteStore
from waypost.storage.wire.link import Link
from waypost.storage.wire.socket_link import socket_link
from waypost.transports.uvicorn_runner import calm_garbage_collection

RECORD = b"x" * 200
NODES = (1, 2, 4)
IN_FLIGHT = (1, 16, 128)


@dataclass
class Load:
    """What one process has done.

    Attributes:
        appended: The entries it has appended.
        applied: The entries of other nodes that it has applied.
        wall_s: How long it took.
        cpu_s: The time of a processor that the process took.
        waits_s: How long the median append waited, and the slowest one of a hundred.
    """

    appended: int
    applied: int
    wall_s: float
    cpu_s: float
    waits_s: tuple[float, float]


class Counting:
    """A `Follower` that counts."""

    def __init__(self) -> None:
        self.applied = 0

    def appended(self, position: int, record: bytes) -> None:
        """Count an entry."""
        self.applied += 1

    def joined(self, *_: object) -> None:
        """Refuse: only entries are appended here."""
        raise AssertionError("nobody joins")

    left = ended = claimed = jumped = joined


async def load(journal: Journal, in_flight: int, seconds: float) -> Load:
    """Append for some seconds."""
    follower = Counting()
    typed: Follower = follower
    journal.follow(typed)
    waits: list[float] = []
    end = time.perf_counter() + seconds

    async def work() -> None:
        now = time.perf_counter()
        while now < end:
            await journal.append(RECORD, lambda _: None)
            now, before = time.perf_counter(), now
            waits.append(now - before)

    began, began_cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(work() for _ in range(in_flight)))
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
    waits.sort()
    return Load(len(waits), follower.applied, wall_s, cpu_s, (waits[len(waits) // 2], waits[len(waits) * 99 // 100]))


async def alone(options: StoreOptions, in_flight: int, seconds: float) -> Load:
    """One process with the store itself."""
    store: Store = make_store(options)
    await store.open()
    done = await load(await store.journal("/"), in_flight, seconds)
    await store.close()
    return done


async def node(
    options: StoreOptions, link: socket.socket, reports: Connection, in_flight: int, seconds: float
) -> None:
    """One node, which begins when it is told to."""

    async def connect() -> Link:
        return await socket_link(link)

    store = RemoteStore(connect, options)
    await store.open()
    journal = await store.journal("/")
    reports.send("ready")
    await asyncio.get_running_loop().run_in_executor(None, reports.recv)
    done = await load(journal, in_flight, seconds)
    reports.send(done)
    await asyncio.get_running_loop().run_in_executor(None, reports.recv)
    await store.close()


async def hosted(options: StoreOptions, nodes: int, in_flight: int, seconds: float) -> tuple[list[Load], float]:
    """Nodes in processes of their own; returns what each did, and the host's time of a processor."""
    context = multiprocessing.get_context("spawn")
    loop = asyncio.get_running_loop()
    host = StoreHost()
    await host.open(options)
    reports: list[Connection] = []
    processes = []
    for _ in range(nodes):
        ours, theirs = socket.socketpair()
        mine, its = context.Pipe()
        process = context.Process(target=run_node, args=(options, theirs, its, in_flight, seconds))
        process.start()
        theirs.close()
        host.attach(await socket_link(ours))
        reports.append(mine)
        processes.append(process)
    for one in reports:
        await loop.run_in_executor(None, one.recv)
    began_cpu = time.process_time()
    for one in reports:
        one.send("begin")
    loads = [await loop.run_in_executor(None, one.recv) for one in reports]
    cpu_s = time.process_time() - began_cpu
    for one in reports:
        one.send("end")
    for process in processes:
        await loop.run_in_executor(None, process.join)
    await host.close()
    return loads, cpu_s


def run_node(options: StoreOptions, link: socket.socket, reports: Connection, in_flight: int, seconds: float) -> None:
    """The process of a node."""
    calm_garbage_collection()
    uvloop.run(node(options, link, reports, in_flight, seconds))


def line(nodes: int, in_flight: int, loads: list[Load], host_s: float) -> dict[str, object]:
    """Return the figures of one measurement, for all nodes together."""
    appended = sum(one.appended for one in loads)
    return {
        "nodes": nodes,
        "in flight": in_flight,
        "entries/s": round(appended / max(one.wall_s for one in loads)),
        "host us/entry": round(host_s / appended * 1e6, 1),
        "nodes us/entry": round(sum(one.cpu_s for one in loads) / appended * 1e6, 1),
        "p50 ms": round(max(one.waits_s[0] for one in loads) * 1e3, 2),
        "p99 ms": round(max(one.waits_s[1] for one in loads) * 1e3, 2),
    }


async def main(spec: str, seconds: float) -> None:
    """Measure, and print a line of JSON for each."""
    with tempfile.TemporaryDirectory() as directory:
        for in_flight in IN_FLIGHT:
            for nodes in (0, *NODES):
                path = Path(spec or directory) / f"{in_flight}-{nodes}.db"
                options = StoreOptions(spec="memory:" if spec == "memory:" else f"sqlite:{path}")
                if nodes:
                    loads, host_s = await hosted(options, nodes, in_flight, seconds)
                else:
                    loads, host_s = [await alone(options, in_flight, seconds)], 0.0
                print(json.dumps(line(nodes, in_flight, loads, host_s)), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="What the workers' store costs.")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each measurement takes")
    parser.add_argument("--store", default="", help='a directory for the files, or "memory:"')
    given = parser.parse_args()
    # As the parent and the workers do.
    calm_garbage_collection()
    uvloop.run(main(given.store, given.seconds))
