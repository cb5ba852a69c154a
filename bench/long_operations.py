"""What others feel of an operation on very many messages: ``python -m bench.long_operations [--messages N]``.

For each operation: how long its caller waits, after how long its rows are gone, and the time of an emit to another
queue, one after the other, before the operation and until its rows are gone.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import NewMessageRow, QueueLimits
from waypost.storage.sqlite.store import SqliteStore

_UNLIMITED = 1 << 50
_LOWER = QueueLimits(max_messages=1000, max_bytes=_UNLIMITED, overflow="drop_oldest")
_AT_ONCE = 2000
_QUIET_S = 2.0
_LOOK_EVERY_S = 0.05

OPERATIONS: dict[str, Callable[[StoredQueue, int], Awaitable[object]]] = {
    "seek past all": lambda queue, _: queue.seek("slow", "new"),
    "delete a consumer": lambda queue, _: queue.remove_consumer("slow"),
    "lower the limits": lambda queue, _: queue.configure(_LOWER, b"{}"),
    "purge": lambda queue, _: queue.purge(),
    "purge up to": lambda queue, messages: queue.purge(upto=messages - 10),
}


async def put(queue: StoredQueue, count: int) -> None:
    """Enqueue messages in one call."""
    messages = [NewMessageRow(str(number), b"x" * 100) for number in range(count)]
    await queue.enqueue(messages, deduplicate_s=0, on_commit=lambda _: None)


class Others:
    """Emits to another queue, one after the other, and times each."""

    def __init__(self, queue: StoredQueue) -> None:
        self._queue = queue
        self.times: list[float] = []

    @contextmanager
    def emitting(self) -> Iterator[None]:
        """Emit until the end of the block."""
        self.times = []
        task = asyncio.get_running_loop().create_task(self._emit())
        try:
            yield
        finally:
            task.cancel()

    async def _emit(self) -> None:
        while True:
            began = time.perf_counter()
            await put(self._queue, 1)
            self.times.append(time.perf_counter() - began)
            await asyncio.sleep(0.001)

    def told(self) -> str:
        """Return the median and the longest time, in milliseconds."""
        times = sorted(self.times)
        return f"p50 {times[len(times) // 2] * 1000:.2f} ms, longest {times[-1] * 1000:.0f} ms"


async def measure(name: str, messages: int, directory: Path) -> None:
    """Measure one operation."""
    store = SqliteStore(
        directory / "store.db", queue_limits=QueueLimits(max_messages=_UNLIMITED, max_bytes=_UNLIMITED)
    )
    await store.open()
    queue, others = store.queue("large"), Others(store.queue("other"))
    await queue.add_consumer("slow")
    await queue.add_consumer("fast", start="new")
    for _ in range(0, messages, _AT_ONCE):
        await put(queue, _AT_ONCE)
    await queue.seek("fast", "new")
    with others.emitting():
        await asyncio.sleep(_QUIET_S)
    before = others.told()
    with others.emitting():
        began = time.perf_counter()
        await OPERATIONS[name](queue, messages)
        waited = time.perf_counter() - began
        with closing(sqlite3.connect(directory / "store.db")) as file:
            while True:
                if not file.execute("SELECT 1 FROM sweep").fetchone():
                    break
                await asyncio.sleep(_LOOK_EVERY_S)
        gone = time.perf_counter() - began
        await asyncio.sleep(0.1)
    print(f"{name}, {messages:,} messages: {waited:.2f} s, rows gone after {gone:.1f} s")
    print(f"  others before: {before}; until the rows are gone: {others.told()}")
    await store.close()


def main() -> None:
    """Measure all operations, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--only", nargs="*", default=list(OPERATIONS))
    options = parser.parse_args()
    for name in options.only:
        with tempfile.TemporaryDirectory(prefix="waypost-long-") as directory:
            asyncio.run(measure(name, options.messages, Path(directory)))


if __name__ == "__main__":
    main()
