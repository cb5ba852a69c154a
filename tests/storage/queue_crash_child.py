"""Kills a process at steps of writes to queues, and looks what is left.

``python -m tests.storage.queue_crash_child DIRECTORY FIRST EVERY``. A step is a statement of SQLite in the writer's
thread, or what comes between a commit and its report. Each is tried in a process of its own, which is killed there.
What the file has then must be what it had after the last write that was reported, or with all of the one after it.
``FIRST`` and ``EVERY`` choose the steps: with 1 and 1 all are tried.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any

from tests.storage.backends import UNLIMITED, Clock, ignore
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import Attempt, DeadLetterFilter, NewMessageRow, QueueLimits
from waypost.storage.sqlite.queues import marks, queues, sweeps
from waypost.storage.sqlite.store import SqliteStore
from waypost.storage.sqlite.writer import Writer

Step = Callable[[SqliteStore, StoredQueue, dict[str, int]], Awaitable[object]]
BEGAN = 1000.0
# Each step is taken a second after the one before.
CLOCK = Clock(now=BEGAN)


def put(*ids: str, key: str | None = None, delay_s: float = 0.0, ttl_s: float | None = None) -> Step:
    messages = [NewMessageRow(one, one.encode() * 10, key, ttl_s, delay_s) for one in ids]
    return lambda store, queue, epochs: queue.enqueue(messages, deduplicate_s=60, on_commit=ignore)


def settle(consumer: str, *positions: int) -> Step:
    return lambda store, queue, epochs: queue.settle(consumer, epochs[consumer], positions)


def retry(consumer: str, position: int, failures: int) -> Step:
    attempt = Attempt(position, failures, 0, "rejected", "no", BEGAN, BEGAN + 5)
    return lambda store, queue, epochs: queue.retry(consumer, epochs[consumer], [attempt])


def bury(consumer: str, *positions: int) -> Step:
    attempts = [Attempt(position, 5, 0, "rejected", "never", BEGAN) for position in positions]
    return lambda store, queue, epochs: queue.bury(consumer, epochs[consumer], attempts)


def redrive(most: int, spacing_s: float) -> Step:
    return lambda store, queue, epochs: queue.redrive(
        DeadLetterFilter(), after=0, max_letters=most, spacing_s=spacing_s, first_at=BEGAN
    )


STEPS: dict[str, Step] = {
    "enqueue many": put("a", "b", "c", "d", "e", key="k"),
    "enqueue again, with one that is new": put("a", "f"),
    "enqueue later": put("later", delay_s=5),
    "enqueue for a moment": put("brief", ttl_s=5),
    "settle in order": settle("one", 1),
    "settle by both": settle("two", 1),
    "settle out of order": settle("one", 3, 4),
    "fail": retry("one", 2, 1),
    "fail again": retry("one", 2, 2),
    "bury": bury("one", 2),
    "bury several": bury("two", 2, 3),
    "redrive one": redrive(1, 0),
    "redrive the others, spread": redrive(9, 20),
    "release what is due": lambda store, queue, epochs: store.release_due(),
    "settle what was redriven": settle("one", 8, 9, 5, 6),
    "end what has outlived its time": lambda store, queue, epochs: store.trim(),
    "lose for a limit": lambda store, queue, epochs: queue.configure(
        QueueLimits(max_messages=4, overflow="drop_oldest"), b"settings"
    ),
    "enqueue into a full queue": put("g", "h"),
    "seek": lambda store, queue, epochs: queue.seek("two", "oldest"),
    "purge": lambda store, queue, epochs: queue.purge(upto=10),
    "remove a consumer": lambda store, queue, epochs: queue.remove_consumer("two"),
    "purge all": lambda store, queue, epochs: queue.purge(),
    "enqueue into what is deleted next": put("i", "j", "k"),
    "delete": lambda store, queue, epochs: queue.delete(),
}


async def begin(path: Path) -> tuple[SqliteStore, dict[str, int]]:
    """Make a store with two consumers; returns it, and their epochs."""
    CLOCK.now = BEGAN
    store = SqliteStore(path, wall_time=CLOCK)
    await store.open()
    queue = store.queue("q")
    return store, {name: (await queue.add_consumer(name)).epoch for name in ("one", "two")}


async def look(store: SqliteStore) -> list[Any]:
    """Return all that can be read of the queue."""
    queue = store.queue("q")
    # Before anything has outlived its time.
    now, CLOCK.now = CLOCK.now, BEGAN
    info = await queue.info()
    consumers = await queue.consumers()
    found: list[Any] = [(info.top, info.messages, info.delayed, info.bytes, info.dead, info.dropped), consumers]
    for one in consumers:
        found.append(await queue.fetch(one.name, after=0, max_messages=UNLIMITED, max_bytes=UNLIMITED))
    found.append(await queue.peek(after=0, max_messages=UNLIMITED, max_bytes=UNLIMITED))
    found.append(await queue.dead_letters(DeadLetterFilter(), after=0, max_letters=UNLIMITED, max_bytes=UNLIMITED))
    found.append((await queue.configuration()).settings)
    CLOCK.now = now
    return found


async def snapshots(path: Path) -> list[list[Any]]:
    """Return what can be read before each step and after the last."""
    store, epochs = await begin(path)
    seen = [await look(store)]
    for step in STEPS.values():
        CLOCK.now += 1
        await step(store, store.queue("q"), epochs)
        seen.append(await look(store))
    await store.close()
    return seen


async def run_and_die(path: Path, at: int, told: int) -> None:
    """Take all steps, telling when each is reported, and be killed at one of the writer's."""
    store, epochs = await begin(path)
    left = at

    def tick(*_: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    await store._open().writer.submit(lambda tx: tx.connection.set_trace_callback(tick))
    written = Writer._written

    def report(writer: Writer, batch: Any) -> None:
        tick()
        written(writer, batch)

    Writer._written = report  # type: ignore[assignment, method-assign]
    for step in STEPS.values():
        CLOCK.now += 1
        await step(store, store.queue("q"), epochs)
        os.write(told, b".")
    os._exit(0)


async def check(path: Path, at: int, reported: int, seen: list[list[Any]]) -> None:
    """Open what was left by a process that was killed, and compare."""
    store = SqliteStore(path, wall_time=CLOCK)
    await store.open()
    found = mask(await look(store))
    expected = [mask(one) for one in seen[reported : reported + 2]]
    name = [*STEPS, "the end"][reported]
    assert found in expected, f"killed at {at}, in {name!r}: {found}\nexpected {expected}"
    await store.close()


def mask(seen: list[Any]) -> str:
    """Return what was seen without the random name of the queue's generation."""
    generations = {one.generation for one in seen[1]}
    text = repr(seen)
    for generation in generations:
        text = text.replace(generation, "generation")
    return text


def main(directory: Path, first: int, every: int) -> None:
    # Else epochs begin at random, and could not be compared.
    queues._EPOCH_BITS = 0
    # As few messages are counted, and rows removed, in each step as if there were very many.
    marks._STEP = sweeps._STEP = 2
    seen = asyncio.run(snapshots(directory / "whole.db"))
    for name, before, after in zip(STEPS, seen, seen[1:], strict=False):
        assert mask(before) != mask(after), f"{name!r} does nothing"
    for at in count(first, every):
        path = directory / f"{at}.db"
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            asyncio.run(run_and_die(path, at, writing))
        os.close(writing)
        _, status = os.waitpid(child, 0)
        reported = len(os.read(reading, 1000))
        os.close(reading)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            assert reported == len(STEPS)
            return
        asyncio.run(check(path, at, reported, seen))
        sys.stdout.write(f"{at}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
