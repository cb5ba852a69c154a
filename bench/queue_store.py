"""How fast the store takes messages into a queue and out of it: ``python -m bench.queue_store [--seconds S]``.

Every enqueue is awaited until it is on disk (SQLite: WAL, ``synchronous=FULL``). In flight is how many wait at a
time. With ``--store postgresql://…`` PostgreSQL is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import tempfile
import time
from pathlib import Path

import uvloop

from waypost.storage.base import Store
from waypost.storage.postgres.store import PostgresStore
from waypost.storage.queue_records import NewMessageRow
from waypost.storage.sqlite.store import SqliteStore

RECORD = b"x" * 200


async def enqueue(store: Store, in_flight: int, seconds: float, window_s: float) -> tuple[float, float]:
    """Return awaited enqueues a second by that many tasks, and the microseconds of a processor that each took."""
    queue = store.queue(f"enqueue {in_flight} {window_s}")
    end = time.perf_counter() + seconds
    done = 0

    async def work(worker: int) -> None:
        nonlocal done
        number = 0
        while time.perf_counter() < end:
            number += 1
            message = NewMessageRow(f"{worker}.{number}", RECORD)
            await queue.enqueue([message], deduplicate_s=window_s, on_commit=lambda _: None)
            done += 1

    began, began_cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(work(worker) for worker in range(in_flight)))
    return done / (time.perf_counter() - began), (time.process_time() - began_cpu) / done * 1e6


async def backlog(store: Store, size: int) -> tuple[float, float]:
    """Return microseconds a message to read, and to settle in order, with that many waiting."""
    queue = store.queue(f"backlog {size}")
    epoch = (await queue.add_consumer("c")).epoch
    for start in range(0, size, 5000):
        messages = [NewMessageRow(str(number), RECORD) for number in range(start, min(start + 5000, size))]
        await queue.enqueue(messages, deduplicate_s=0, on_commit=lambda _: None)
    reading = settling = 0.0
    position = count = 0
    while count < min(size, 3200) and (
        page := await queue.fetch("c", after=position, max_messages=32, max_bytes=1 << 20)
    ):
        position = page[-1].position
        began = time.perf_counter()
        await queue.fetch("c", after=position - 32, max_messages=32, max_bytes=1 << 20)
        read = time.perf_counter()
        await queue.settle("c", epoch, [message.position for message in page])
        settling += time.perf_counter() - read
        reading += read - began
        count += len(page)
    return reading / count * 1e6, settling / count * 1e6


async def idle(store: Store, queues: int) -> float:
    """Return the bytes of memory that a queue with one message and one consumer costs."""
    before = resident()

    async def make(worker: int) -> None:
        for number in range(worker, queues, 256):
            queue = store.queue(f"idle {number}")
            await queue.add_consumer("c")
            await queue.enqueue([NewMessageRow("m", RECORD)], deduplicate_s=0, on_commit=lambda _: None)

    await asyncio.gather(*(make(worker) for worker in range(256)))
    return (resident() - before) / queues


def resident() -> int:
    """Return the process's memory in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


async def main() -> None:
    """Measure, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--backlogs", type=int, nargs="*", default=[10, 10_000, 1_000_000])
    parser.add_argument("--idle", type=int, default=0)
    parser.add_argument(
        "--store", help="the address of a PostgreSQL database; without it, an SQLite file is measured"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="waypost-bench-") as directory:
        store: Store = PostgresStore(options.store) if options.store else SqliteStore(Path(directory) / "store.db")
        await store.open()
        for window_s in (0.0, 600.0):
            for in_flight in (1, 16, 128, 1024):
                rate, cpu = await enqueue(store, in_flight, options.seconds, window_s)
                ids = "with deduplication" if window_s else "fresh ids"
                print(f"enqueue, {in_flight:5} in flight, {ids}: {rate:9,.0f}/s, {cpu:5.1f} µs of CPU", flush=True)
        for size in options.backlogs:
            reading, settling = await backlog(store, size)
            print(f"backlog of {size:9,}: read {reading:6.1f} µs, settle {settling:6.1f} µs a message, pages of 32")
        if options.idle:
            print(f"{options.idle:,} idle queues: {await idle(store, options.idle):.0f} bytes of memory each")
        await store.close()


if __name__ == "__main__":
    uvloop.run(main())
