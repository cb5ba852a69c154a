"""A store's file with something in its queues, and the command run on it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.storage.backends import ignore
from waypost.cli import main
from waypost.protocol.headers import pack_headers
from waypost.protocol.records import write_json, write_msgpack
from waypost.protocol.rich_msgpack import pack
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import Attempt, NewMessageRow, QueueLimits
from waypost.storage.sqlite.store import SqliteStore

__all__ = ["Command", "enqueue", "fill", "kill", "with_headers"]

NOW = time.time()


class Command:
    """Runs ``waypost queue`` in this process, and keeps what it printed.

    Attributes:
        out: What the last one printed to stdout.
        err: What it printed to stderr.
    """

    def __init__(self, path: Path | str, capsys: pytest.CaptureFixture[str]) -> None:
        self.path = path
        self.out = ""
        self.err = ""
        self._capsys = capsys

    def run(self, name: str, *words: object, store: object = None) -> int:
        """Run a command; returns its exit code."""
        self._capsys.readouterr()
        try:
            code = main(["queue", name, str(store or self.path), *map(str, words)])
        except SystemExit as ended:  # how argparse refuses
            code = int(ended.code or 0)
        self.out, self.err = self._capsys.readouterr()
        return code

    def json(self, name: str, *words: object) -> Any:
        """Run a command that must work; returns the JSON that it printed."""
        code = self.run(name, *words, "--json")
        assert (code, self.err) == (0, "")
        return json.loads(self.out)

    def lines(self, name: str, *words: object) -> list[list[str]]:
        """Run a command that must work; returns what it printed, each line as its words."""
        code = self.run(name, *words)
        assert (code, self.err) == (0, "")
        return [line.split() for line in self.out.splitlines()]


async def enqueue(queue: StoredQueue, *messages: NewMessageRow) -> None:
    await queue.enqueue(messages, deduplicate_s=0, on_commit=ignore)


async def kill(queue: StoredQueue, consumer: str, positions: Sequence[int], reason: str) -> None:
    """Let messages become dead letters of a consumer."""
    epoch = (await queue.consumer(consumer)).epoch
    for position in positions:
        tries = [Attempt(position, n, 0, "rejected", reason, time.time(), time.time()) for n in (1, 2)]
        await queue.retry(consumer, epoch, tries[:1])
        await queue.bury(consumer, epoch, tries[1:])


def record(event: str, *args: Any) -> bytes:
    return write_json(json.dumps([event, *args]).encode(), ())


def fill(path: Path) -> None:
    """Make a store: mails with all kinds of states, two inboxes, and 6 dead letters of two reasons."""

    async def make() -> None:
        store = SqliteStore(path)
        await store.open()
        mails = store.queue("mails")
        await mails.add_consumer("smtp")
        await mails.add_consumer("archive")
        messages = [NewMessageRow(f"id {n}", record("mail", {"to": n}), key=f"k{n % 2}") for n in range(1, 9)]
        messages.append(NewMessageRow("id 9", write_msgpack(pack("event", ["picture", b"\x00\x01", "\x1b[2J"]))))
        await enqueue(mails, *messages, NewMessageRow("later", record("mail"), delay_s=3600))
        await kill(mails, "smtp", [1, 2, 3, 9], "no such address")
        await kill(mails, "archive", [4, 5], "disk full")
        epoch = (await mails.consumer("smtp")).epoch
        again = Attempt(6, 1, 0, "rejected", "busy", time.time(), time.time() + 1000)
        await mails.retry("smtp", epoch, [again])
        await mails.configure(QueueLimits(max_messages=1000), b'{"max_messages": 1000}')
        for name in ("inbox:ann", "inbox:bob"):
            await enqueue(store.queue(name), NewMessageRow("one", record("note", "x" * 3000)))
        await store.close()

    asyncio.run(make())


def with_headers(path: Path) -> None:
    """Make a store with messages of which one has headers, and is a dead letter of one consumer."""

    async def make() -> None:
        store = SqliteStore(path)
        await store.open()
        jobs = store.queue("jobs")
        await jobs.add_consumer("one")
        await jobs.add_consumer("two")
        headers = pack_headers({"tenant": "7", "odd": "\x1b[2J"})
        await enqueue(jobs, NewMessageRow("a", record("job"), headers=headers), NewMessageRow("b", record("job")))
        await kill(jobs, "one", [1], "no")
        await enqueue(store.queue("plain"), NewMessageRow("a", record("job")))
        await store.close()

    asyncio.run(make())
