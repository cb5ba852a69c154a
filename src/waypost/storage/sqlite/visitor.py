"""A store's file as another program sees it: reads and changes queues, with or without a running server."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from waypost.errors import StoreClosed
from waypost.storage.base import PATIENCE_S
from waypost.storage.clock import StoreClock
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import Configuration, QueueLimits, QueueRow
from waypost.storage.sqlite.file import connect, open_beside
from waypost.storage.sqlite.noted_clock import follow_clock
from waypost.storage.sqlite.queues import keeping, queues
from waypost.storage.sqlite.queues.holds import Holds
from waypost.storage.sqlite.queues.queue import QueueFile, SqliteQueue
from waypost.storage.sqlite.reader import Reader
from waypost.storage.sqlite.turns import VisitorsTurns
from waypost.storage.sqlite.writer import Writer
from waypost.storage.store_numbers import Commits

__all__ = ["SqliteVisitor"]


class SqliteVisitor:
    """The queues of a file that another process may own; the owner is notified of the changed queues.

    A visitor converts no older file, trims nothing, and does not release due messages: the owner does.

    Args:
        path: The file.
        queue_limits: The limits of queues without their own, for messages that are enqueued here.
        wall_time: The wall clock, in seconds since 1970; called in threads of the visitor.
        steady_time: The clock for durations, called there too; see `StoreClock`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        queue_limits: QueueLimits | None = None,
        wall_time: Callable[[], float] = time.time,
        steady_time: Callable[[], float] | None = None,
    ) -> None:
        self._path = Path(os.path.realpath(path))
        self._name = str(self._path)
        self._limits = queue_limits or QueueLimits()
        self._clock = StoreClock(wall_time, steady_time)
        self._file: QueueFile | None = None

    @property
    def clock(self) -> StoreClock:
        """The clock on which the store measures durations."""
        return self._clock

    async def open(self) -> None:
        """Open the file.

        Raises:
            ConfigurationError: The file does not exist, or can't be opened.
            StoreDamaged: The file is not a Waypost store, or is of another version.
        """
        writing, reading = open_beside(self._path), connect(self._path)
        follow_clock(reading, self._clock)
        keeping.add_functions(writing, self._limits.keep_settled_s, self._clock.now)
        writer = Writer(
            self._name,
            writing,
            asyncio.get_running_loop(),
            self._clock,
            commits=Commits(),
            turns=VisitorsTurns(self._name),
            patience_s=PATIENCE_S,
        )
        reader = Reader(self._name, reading, ThreadPoolExecutor(1, thread_name_prefix=f"waypost read {self._name}"))
        holds = Holds(self._name, writer)
        self._file = QueueFile(
            self._name, self._limits, self._clock, writer, reader, holds, _leave_to_the_owner, is_visit=True
        )

    async def close(self) -> None:
        """Finish the pending calls, and close the file. A second call does nothing."""
        if self._file is not None:
            file, self._file = self._file, None
            file.holds.stop()
            await file.reader.close()
            await file.writer.close()

    def queue(self, name: str) -> StoredQueue:
        """Return a handle on a queue, whether it exists or not."""
        return SqliteQueue(name, self._opened())

    async def queues(self, *, after: str = "", max_queues: int = 1000, idle: bool = True) -> list[QueueRow]:
        """Return the states of queues whose names come after one, by name."""
        return await self._opened().reader.run(lambda connection: queues.infos(connection, after, max_queues, idle))

    async def configurations(self) -> list[Configuration]:
        """Return the configuration of every queue that has one."""
        return await self._opened().reader.run(queues.configurations)

    def _opened(self) -> QueueFile:
        if self._file is None:
            raise StoreClosed(self._name)
        return self._file


def _leave_to_the_owner() -> None:
    """Remove no rows: the owner does, the next one at the latest."""
