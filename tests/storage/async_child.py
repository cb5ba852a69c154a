"""A process that writes asynchronously, prints what it was told, and is killed or ends: ``async_child.py PATH``.

It ends by itself, closing its store, when its standard input does.
"""

from __future__ import annotations

import asyncio
import os
import sys

from waypost.storage.base import Journal
from waypost.storage.queue_records import NewMessageRow
from waypost.storage.sqlite.store import SqliteStore

WRITERS = 4
PAYLOAD = b"-" * 300
JOURNALS = ("/a", "/b")


def tell(line: str) -> None:
    """Print at once, with a single write, so that a kill does not tear it."""
    os.write(sys.stdout.fileno(), f"{line}\n".encode())


async def write(store: SqliteStore, journals: list[Journal], worker: int, ended: asyncio.Event) -> None:
    queue = store.queue("q")
    number = 0
    while not ended.is_set():
        number += 1
        journal = journals[number % 2]
        token = f"{os.getpid()}.{worker}.{number}"
        await append(journal, token)
        if number % 20 == 0:
            await journal.open_session(token.encode(), token, b"", lambda at: None)
            await journal.join(token.encode(), ["room"], lambda at: None)
            tell(f"session {journal.name} 0 {token}")
        if number % 50 == 0:
            await journal.join_matching(["room"], (), ["other"], lambda at: None)
        if number % 100 == 0:
            message = NewMessageRow(token, PAYLOAD)
            enqueued = await queue.enqueue([message], deduplicate_s=60, on_commit=lambda at: None)
            tell(f"message q {enqueued.accepted[0].position} {token}")
        if number % 700 == 0:
            await store.trim()
        await asyncio.sleep(0)


async def append(journal: Journal, token: str) -> None:
    def on_commit(at: int) -> None:
        tell(f"entry {journal.name} {at} {token} {journal.generation}")

    await journal.append(token.encode() + PAYLOAD, on_commit)


async def main() -> None:
    store = SqliteStore(sys.argv[1], durability="async")
    await store.open()
    await store.queue("q").add_consumer("c")
    journals = [await store.journal(name) for name in JOURNALS]
    ended = asyncio.Event()
    reader = asyncio.get_running_loop()
    reader.add_reader(sys.stdin.fileno(), ended.set)
    tell("ready - 0 -")
    await asyncio.gather(*(write(store, journals, worker, ended) for worker in range(WRITERS)))
    reader.remove_reader(sys.stdin.fileno())
    await store.close()


if __name__ == "__main__":
    asyncio.run(main())
