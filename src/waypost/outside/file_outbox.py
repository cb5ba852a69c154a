"""The outbox in a store's SQLite file, beside a server or without one."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from waypost.protocol.codec import EncodedEvent
from waypost.server.basics.targets import Target, write_record
from waypost.server.queues.options import QueueOptions
from waypost.server.queues.publishing import publish_row
from waypost.storage.outside import OutsideWrite
from waypost.storage.queue_records import NewMessageRow
from waypost.storage.sqlite import outbox
from waypost.storage.sqlite.file import open_beside

__all__ = ["FileOutbox"]

T = TypeVar("T")


class FileOutbox:
    """The outbox of a store in a file; see `waypost.outside.outbox.Outbox`.

    Args:
        path: The file; a server has made it.
        queues: The options of queues without their own.
    """

    def __init__(self, path: Path, queues: QueueOptions) -> None:
        self._path = path
        self._queues = queues
        # One thread, so that the order of the calls is that of the commits.
        self._thread: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None

    async def emit(
        self, namespace: str, target: Target, event: EncodedEvent, *, write_id: str, window_s: float
    ) -> None:
        """Take an event."""
        wanted = OutsideWrite("emit", namespace, content=write_record(target, event))
        await self._run(partial(outbox.write, wanted=wanted, write_id=write_id, deduplicate_s=window_s))

    async def change(self, write: OutsideWrite) -> None:
        """Take a change of rooms or sessions."""
        await self._run(partial(outbox.write, wanted=write))

    async def publish(self, queue: str, message: NewMessageRow, *, has_own_id: bool) -> None:
        """Take a message for a queue."""
        await self._run(
            partial(publish_row, queue=queue, message=message, options=self._queues, has_own_id=has_own_id)
        )

    async def close(self) -> None:
        """Close the file."""
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.get_running_loop().run_in_executor(thread, self._close_file)
            thread.shutdown(wait=False)

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"waypost emitter {self._path}")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._work, work)

    def _work(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._connection is None:
            self._connection = open_beside(self._path)
        return work(self._connection)

    def _close_file(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
