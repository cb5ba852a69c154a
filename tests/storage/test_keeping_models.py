"""Random calls on a queue that keeps settled messages: in memory and on disk they come to the same."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any, TypeAlias

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.storage.backends import Clock, ignore
from waypost.errors import QueueFull
from waypost.storage.base import Store
from waypost.storage.memory.store import MemoryStore
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import Attempt, FromPosition, NewMessageRow, QueueLimits
from waypost.storage.sqlite.store import SqliteStore

KEEP_S = 100.0
LIMITS = QueueLimits(max_messages=12, keep_settled_s=KEEP_S)
MANY = 1 << 30
Call: TypeAlias = tuple[Any, ...]

# A message that all have settled, and that another consumer wants for a time: it goes first when the queue is full.
WANTED_AGAIN: list[Call] = [
    ("put", 4),
    ("come", "b", "oldest"),
    ("put", 4),
    ("put", 4),
    ("seek", "b", 2),
    ("leave", "b"),
    ("come", "a", "oldest"),
    ("trim",),
    ("settle", "a", [2]),
    ("leave", "a"),
    ("put", 1),
]

consumers = st.sampled_from(["a", "b"])
some = st.lists(st.integers(1, 30), min_size=1, max_size=6)
calls: st.SearchStrategy[Call] = st.one_of(
    st.tuples(st.just("put"), st.integers(1, 4)),
    st.tuples(st.just("settle"), consumers, some),
    st.tuples(st.just("settle"), consumers, some),
    st.tuples(st.just("bury"), consumers, st.integers(1, 30)),
    st.tuples(st.just("seek"), consumers, st.integers(0, 30)),
    st.tuples(st.just("leave"), consumers),
    st.tuples(st.just("come"), consumers, st.sampled_from(["oldest", "new"])),
    # Well apart from each other: on disk the time is rounded up.
    st.tuples(st.just("wait"), st.sampled_from([0.0, KEEP_S * 0.6, KEEP_S * 1.5])),
    st.tuples(st.just("trim")),
    st.tuples(st.just("purge"), st.one_of(st.none(), st.integers(1, 30))),
)


async def play(store: Store, clock: Clock, history: list[Call]) -> list[object]:
    """Make the calls; returns what was seen after each."""
    await store.open()
    queue = store.queue("q")
    await queue.configure(LIMITS, b"{}")
    seen: list[object] = []
    for call in history:
        seen.append((call, await _call(store, queue, clock, call)))
        messages = await queue.peek(after=0, max_messages=MANY, max_bytes=MANY)
        info = await queue.info()
        states = [
            (row.name, row.cursor, row.waiting, row.settled, row.dead, row.lost) for row in await queue.consumers()
        ]
        seen.append(([one.position for one in messages], info.messages, info.bytes, info.dropped, states))
        for row in await queue.consumers():
            found = await queue.fetch(row.name, after=0, max_messages=MANY, max_bytes=MANY)
            seen.append([one.position for one in found])
    await store.close()
    return seen


async def _call(store: Store, queue: StoredQueue, clock: Clock, call: Call) -> object:
    known = {row.name for row in await queue.consumers()}
    match call:
        case ("put", count):
            messages = [NewMessageRow(f"m{number}", b"x" * number) for number in range(count)]
            try:
                return (await queue.enqueue(messages, deduplicate_s=0, on_commit=ignore)).losers
            except QueueFull:
                return "full"
        case ("come", name, start):
            await queue.add_consumer(name, start=start)
        case ("settle", name, positions) if name in known:
            await queue.settle(name, (await queue.consumer(name)).epoch, positions)
        case ("bury", name, position) if name in known:
            attempt = Attempt(position, 1, 0, "rejected", "no", clock.now)
            await queue.bury(name, (await queue.consumer(name)).epoch, [attempt])
        case ("seek", name, position) if name in known:
            await queue.seek(name, FromPosition(position))
        case ("leave", name):
            await queue.remove_consumer(name)
        case ("wait", seconds):
            clock.now += seconds
        case ("purge", upto):
            return await queue.purge(upto=upto)
        case ("trim",):
            await store.trim()
    return None


@settings(max_examples=60, deadline=None)
@given(st.lists(calls, max_size=40))
@example(WANTED_AGAIN)
def test_memory_and_disk_come_to_the_same(history: list[Call]) -> None:
    async def both() -> tuple[list[object], list[object]]:
        clock = Clock()
        in_memory = await play(MemoryStore(wall_time=clock), clock, history)
        clock = Clock()
        with tempfile.TemporaryDirectory(prefix="waypost-keeping-") as folder:
            on_disk = await play(SqliteStore(Path(folder) / "store.db", wall_time=clock), clock, history)
        return in_memory, on_disk

    in_memory, on_disk = asyncio.run(both())
    assert in_memory == on_disk
