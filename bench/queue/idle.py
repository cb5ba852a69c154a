"""What queues cost that nobody uses: ``python -m bench.queue.idle '{"queues": …}'`` prints JSON."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import uvloop

import waypost
from bench.queue.documents import EVENT, document

__all__: list[str] = []

_AT_ONCE = 256


async def main(task: dict[str, Any]) -> dict[str, float]:
    """Make queues with a message and a consumer each, and ask for the numbers of all."""
    io = waypost.Server(store=str(Path(task["address"]) / "idle.db"))
    await io.start()
    await _each(1, _make(io))
    before = _resident()
    began = time.perf_counter()
    await _each(task["queues"], _make(io))
    made = time.perf_counter()
    after = _resident()
    await _each(task["queues"], lambda number: io.queue(f"idle {number}").info())
    asked = time.perf_counter()
    watching = asyncio.create_task(_longest_lag())
    await asyncio.sleep(0)
    listing, listing_cpu = time.perf_counter(), time.process_time()
    await _list(io)
    listed, listed_cpu = time.perf_counter(), time.process_time()
    watching.cancel()
    lag_s = await watching
    await io.close()
    return {
        "before_mib": before / (1 << 20),
        "after_mib": after / (1 << 20),
        "bytes_each": (after - before) / task["queues"],
        "make_us": (made - began) / task["queues"] * 1e6,
        "disk_bytes_each": (Path(task["address"]) / "idle.db").stat().st_size / task["queues"],
        "info_us": (asked - made) / task["queues"] * 1e6,
        "infos_us": (listed - listing) / task["queues"] * 1e6,
        "infos_cpu_us": (listed_cpu - listing_cpu) / task["queues"] * 1e6,
        "infos_lag_ms": lag_s * 1e3,
        "rss_after_polling_mib": _resident() / (1 << 20),
    }


async def _list(io: waypost.Server) -> None:
    """Ask for the numbers of all queues in pages."""
    after = ""
    while page := await io.queue_infos(after=after):
        after = page[-1].name


async def _longest_lag() -> float:
    """Return for how long the event loop was held up at most, until this is cancelled."""
    longest = 0.0
    try:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - began - 0.001)
    except asyncio.CancelledError:
        return longest


def _make(io: waypost.Server) -> Any:
    async def make(number: int) -> None:
        queue = io.queue(f"idle {number}")
        await queue.emit(EVENT, document(number))
        await queue.get_consumer().create()

    return make


async def _each(count: int, work: Any) -> None:
    """Do something for each number, so many at a time."""
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await work(number)

    await asyncio.gather(*(worker() for _ in range(_AT_ONCE)))


def _resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    os.sched_setaffinity(0, given["cores"])
    print(json.dumps(uvloop.run(main(given))))
