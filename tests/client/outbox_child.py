"""A client in a process of its own, to be killed.

``python -m tests.client.outbox_child emit|handle URL FILE JOURNAL`` runs it.
It writes down what it does in a journal, whose lines outlive it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import waypost

EVENTS = 200


def note(journal: Path, line: str) -> None:
    """Append a line in one system call, so that a kill leaves all of it or nothing."""
    file = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(file, f"{line}\n".encode())
    finally:
        os.close(file)


def read(journal: Path, word: str) -> list[int]:
    """Return the numbers behind a word in a journal."""
    lines = journal.read_text().splitlines() if journal.exists() else []
    return [int(line.split()[1]) for line in lines if line.startswith(f"{word} ")]


async def emit(url: str, file: str, journal: Path) -> None:
    """Emit numbers, from the first that was never begun with, and wait until nothing waits."""
    async with waypost.Client(url, outbox=file, reconnection_delay_s=0.02, reconnection_delay_max_s=0.05) as client:
        for number in range(max(read(journal, "begun"), default=-1) + 1, EVENTS):
            note(journal, f"begun {number}")
            await client.emit("order", number)
            note(journal, f"emitted {number}")
        await client.outbox.drained()


async def handle(url: str, file: str, journal: Path) -> None:
    """Handle a queue's messages until killed."""
    client = waypost.Client(url, state=file)

    @client.on("job")
    async def job(number: int) -> None:
        note(journal, f"handled {number}")

    await client.connect()
    await client.wait_closed()


if __name__ == "__main__":
    _, what, url, file, journal = sys.argv
    asyncio.run({"emit": emit, "handle": handle}[what](url, file, Path(journal)))
