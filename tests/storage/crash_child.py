"""A process that writes to a store, prints what it was promised, and is killed: ``crash_child.py STORE``."""

from __future__ import annotations

import asyncio
import os
import sys

from waypost.storage.base import Store
from waypost.storage.choose import make_store
from waypost.storage.options import StoreOptions
from waypost.storage.queue_records import NewMessageRow

WRITERS = 8
PAYLOAD = b"-" * 300


def tell(line: str) -> None:
    """Print at once, with a single write, so that a kill does not tear it."""
    os.write(sys.stdout.fileno(), f"{line}\n".encode())


async def write(store: Store, worker: int) -> None:
    journals = [await store.journal("/a"), await store.journal("/b")]
    queue = store.queue("q")
    number = 0
    while True:
        number += 1
        journal = journals[number % 2]
        token = f"{os.getpid()}.{worker}.{number}"
        position = await journal.append(token.encode() + PAYLOAD, lambda at: None)
        tell(f"entry {journal.name} {position} {token}")
        message = NewMessageRow(token, PAYLOAD)
        enqueued = await queue.enqueue([message], deduplicate_s=60, on_commit=lambda at: None)
        tell(f"message q {enqueued.accepted[0].position} {token}")
        if number % 5 == 0:
            key = token.encode()
            await journal.open_session(key, token, b"", lambda at: None)
            await journal.join(key, ["room"], lambda at: None)
            tell(f"session {journal.name} 0 {token}")
        if number % 7 == 0:
            await store.trim()


async def main() -> None:
    store = make_store(StoreOptions(spec=sys.argv[1]))
    await store.open()
    await store.queue("q").add_consumer("c")
    tell("ready - 0 -")
    await asyncio.gather(*(write(store, worker) for worker in range(WRITERS)))


if __name__ == "__main__":
    asyncio.run(main())
