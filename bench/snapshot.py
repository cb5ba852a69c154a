"""What a snapshot that is held open costs PostgreSQL: emits, and queues that are drained as they fill.

``python -m tests.support.with_postgres postgresql .venv/bin/python -m bench.snapshot {store} --minutes 5``
measures for so many minutes without a snapshot, then for as many while another connection holds one.
"""

from __future__ import annotations

import argparse
import asyncio
import time

import asyncpg

from waypost.storage.postgres.store import PostgresStore
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import NewMessageRow

_RECORD = b"x" * 200
_MESSAGES = 20


async def _emit(store: PostgresStore, ends_at: float, per_s: float) -> list[float]:
    """Emit at a steady rate, whatever each one takes; returns the seconds that each took."""
    journal = await store.journal("/")
    took: list[float] = []

    async def emit(due: float) -> None:
        await journal.append(_RECORD, lambda _: None)
        took.append(time.perf_counter() - due)

    due = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        while due < ends_at:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(emit(due))
            due += 1 / per_s
    return took


async def _drain(queue: StoredQueue, ends_at: float) -> int:
    """Enqueue some messages, fetch and settle them, and so on; returns how many."""
    epoch = (await queue.add_consumer("c")).epoch
    drained = 0
    while time.perf_counter() < ends_at:
        messages = [NewMessageRow(f"{time.time_ns()}-{number}", _RECORD) for number in range(_MESSAGES)]
        await queue.enqueue(messages, deduplicate_s=0, on_commit=lambda _: None)
        rows = await queue.fetch("c", after=0, max_messages=2 * _MESSAGES, max_bytes=1 << 20)
        await queue.settle("c", epoch, [row.position for row in rows])
        drained += len(rows)
        await asyncio.sleep(0.05)
    return drained


async def _measure(store: PostgresStore, name: str, seconds: float, per_s: float) -> float:
    ends_at = time.perf_counter() + seconds
    took, drained = await asyncio.gather(_emit(store, ends_at, per_s), _drain(store.queue("q"), ends_at))
    took.sort()
    p50, p99 = took[len(took) // 2], took[len(took) * 99 // 100]
    print(
        f"{name}: {len(took) / seconds:,.0f} emits/s, {drained / seconds:,.0f} messages/s, "
        f"p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms"
    )
    return p99


async def _run(url: str, minutes: float, per_s: float) -> None:
    store = PostgresStore(url)
    await store.open()
    try:
        before = await _measure(store, "without a snapshot", minutes * 60, per_s)
        holder = await asyncpg.connect(url)
        async with holder.transaction(isolation="repeatable_read"):
            await holder.fetchval("SELECT count(*) FROM waypost.journal")
            during = await _measure(store, "while one is held", minutes * 60, per_s)
        await holder.close()
        print(f"p99 while one is held: {during / before:.2f} times that of before")
    finally:
        await store.close()


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("url", help="an empty database")
    parser.add_argument("--minutes", type=float, default=5.0, help="how long each of the two phases takes")
    parser.add_argument("--emits", type=float, default=2000.0, help="emits a second")
    args = parser.parse_args()
    asyncio.run(_run(args.url, args.minutes, args.emits))


if __name__ == "__main__":
    main()
