"""A process that may not write large files, and what its store does then: ``full_child.py PATH``."""

from __future__ import annotations

import asyncio
import resource
import signal
import sys
from pathlib import Path

from waypost.errors import StoreFull
from waypost.storage.base import Journal
from waypost.storage.sqlite.store import SqliteStore

LIMIT_BYTES = 3 << 20


async def fill(journal: Journal) -> tuple[list[int], int]:
    """Append, many at a time, until there is no space; returns the positions given and the number refused."""
    given: list[int] = []
    refused = 0
    while not refused:
        results = await asyncio.gather(
            *(journal.append(b"x" * 20_000, given.append) for _ in range(32)), return_exceptions=True
        )
        refused = sum(isinstance(result, StoreFull) for result in results)
        assert refused + sum(isinstance(result, int) for result in results) == len(results), results
    return given, refused


async def main() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = SqliteStore(Path(sys.argv[1]))
    await store.open()
    journal = await store.journal("/")
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, hard))
    given, _ = await fill(journal)
    assert given == list(range(1, len(given) + 1))
    assert journal.top == len(given)
    entries = await journal.read(0, len(given), max_entries=1 << 30, max_bytes=1 << 30)
    assert len(entries) == len(given), "what was reported can be read"
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    for number in range(1, 11):
        assert await journal.append(b"later", lambda at: None) == len(given) + number
    await store.close()
    sys.stdout.write(f"{len(given) + 10}\n")


if __name__ == "__main__":
    asyncio.run(main())
