"""Writes the file of the current format that `test_formats.py` keeps: ``python -m tests.storage.make_file``.

Run it once for each format, when that is complete. The store is closed before: a file without the mark beside it that
was not closed counts as an older copy.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from tests.storage.backends import Clock, ignore
from waypost.storage.answer_base import Answer
from waypost.storage.base import Store
from waypost.storage.queue_records import Attempt, NewMessageRow, QueueLimits
from waypost.storage.sqlite.schema import SCHEMA_VERSION
from waypost.storage.sqlite.store import SqliteStore

FILES = Path(__file__).parent / "files"
APPLICATION_ID = 0x57415950
# Until `Holds` and `prove` have written what they noted.
WRITTEN_S = 1.3


async def fill(store: Store, clock: Clock, path: Path) -> None:
    """Put a record of each kind into a store."""
    journal = await store.journal("/")
    for number in range(1, 6):
        await journal.append(b"event %d" % number, ignore)
    await journal.open_session(b"key 1", "sid1", b"data 1", ignore)
    await journal.join(b"key 1", ["sid1", "room"], ignore)
    await asyncio.gather(*(journal.append(b"event %d" % number, ignore) for number in range(6, 9)))
    await journal.leave(b"key 1", ["room"], ignore)
    await journal.append(b"event 9 " + b"x" * 3000, ignore)
    journal.prove(b"key 1", 7, 6)
    for number, ends_at in ((2, 1500.0), (3, 1001.0)):
        await journal.open_session(b"key %d" % number, f"sid{number}", b"data %d" % number, ignore)
        await journal.detach_session(b"key %d" % number, ends_at)
    clock.now = 1002.0
    await store.expire_sessions()
    await fill_queue(store)
    await store.answers().keep(Answer(b"client", 1, "asked", b"answer"), 0)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        store.queue("q").publish(connection, NewMessageRow("published", b"outbox"), deduplicate_s=0.0)


async def fill_queue(store: Store) -> None:
    """Make a queue with two consumers, at different places."""
    queue = store.queue("q")
    for number in range(1, 8):
        key, ttl_s = "k" if number % 2 else None, 1e9 if number == 6 else None
        message = NewMessageRow(f"m{number}", b"record %d" % number, key, ttl_s)
        await queue.enqueue([message], deduplicate_s=1e9, on_commit=ignore)
    await queue.enqueue([NewMessageRow("large", b"y" * 3000)], deduplicate_s=0, on_commit=ignore)
    later = NewMessageRow("later", b"delayed", delay_s=3600.0)
    await queue.enqueue([later], deduplicate_s=1e9, on_commit=ignore)
    limits = QueueLimits(max_messages=50, max_bytes=1 << 20, max_age_s=1e8, overflow="drop_oldest")
    await queue.configure(limits, b"settings")
    a, b = await queue.add_consumer("a"), await queue.add_consumer("b")
    await queue.settle("a", a.epoch, [1, 2, 5])
    await queue.retry("a", a.epoch, [Attempt(3, 1, 1, "rejected", "no", 1001.0, 1002.0)])
    await queue.bury("a", a.epoch, [Attempt(4, 2, 0, "rejected", "never", 1001.5)])
    await queue.settle("b", b.epoch, [1])
    queue.hold("b", "worker 1", 2)
    await queue.pause("b", until=2000.0)


async def main() -> None:
    """Make the file of the current format."""
    with tempfile.TemporaryDirectory() as directory:
        path, clock = Path(directory) / "store.db", Clock(now=1000.0)
        store = SqliteStore(path, wall_time=clock)
        await store.open()
        await fill(store, clock, path)
        await asyncio.sleep(WRITTEN_S)
        await store.close()
        with closing(sqlite3.connect(path)) as connection:
            dump = [*connection.iterdump()]
    pragmas = {"page_size": 8192, "application_id": APPLICATION_ID, "user_version": SCHEMA_VERSION}
    lines = [f"PRAGMA {name} = {value};" for name, value in pragmas.items()]
    target = FILES / f"version_{SCHEMA_VERSION}.sql"
    target.write_text("\n".join(["-- Made by tests/storage/make_file.py.", *lines, *dump, ""]), encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(main())
