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
    await io.close()
    return {
        "before_mib": before / (1 << 20),
        "after_mib": after / (1 << 20),
        "bytes_each": (after - before) / task["queues"],
        "make_us": (made - began) / task["queues"] * 1e6,
        "info_us": (asked - made) / task["queues"] * 1e6,
        "rss_after_polling_mib": _resident() / (1 << 20),
    }


def _make(io: waypost.Server) -> Any:
    async def make(number: int) -> None:
        queue = io.queue(f"idle {number}")
        await queue.emit(EVENT, document(number))
        await queue.consumer().create()

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
