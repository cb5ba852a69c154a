"""The one thread that writes to the store's file, and its group commit.

Writes come as jobs. A transaction takes what gathered while the last one ran, up to a limit, and the
results of all its jobs go to the event loop in one call: nobody waits for others to come, many share a flush.

A job may refuse, by raising a `StorageError` before it has written anything; that concerns nobody else. If it
raises anything else, the transaction is rolled back and its jobs run again one by one, so that only it fails.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from waypost.errors import StorageError, StoreClosed, StoreFull
from waypost.storage.base import OnCommit
from waypost.storage.sqlite_entries import Appender
from waypost.storage.sqlite_file import translate

__all__ = ["CommittedLog", "Transaction", "Writer"]

_logger = logging.getLogger(__name__)

_T = TypeVar("_T")

_BATCH_JOBS = 1024
_BATCH_BYTES = 8 << 20
# Half of what SQLite can hold in a value.
_MAX_RECORD_BYTES = 500_000_000


class CommittedLog(Protocol):
    """The event loop's side of a journal that is appended to."""

    @property
    def id(self) -> int:
        """The journal's number in the file."""
        ...

    def committed(self, record: bytes) -> int:
        """Take note that a record was committed; returns its position, the next one."""
        ...


@dataclass(slots=True)
class Transaction:
    """What a job works with, in the writer's thread.

    Attributes:
        connection: The connection, inside a transaction.
        entries: Appends to journals, and knows their tops in the order of writes.
        now: When the transaction began, as wall time in seconds.
    """

    connection: sqlite3.Connection
    entries: Appender
    now: float


class _Job(Generic[_T]):
    __slots__ = ("error", "future", "on_commit", "result", "work")

    result: _T

    def __init__(
        self,
        work: Callable[[Transaction], _T],
        on_commit: Callable[[_T], None] | None,
        future: asyncio.Future[_T],
    ) -> None:
        self.work = work
        self.on_commit = on_commit
        self.future = future
        self.error: StorageError | None = None

    def run(self, transaction: Transaction) -> None:
        self.error = None
        try:
            self.result = self.work(transaction)
        except StorageError as refusal:
            self.error = refusal

    def deliver(self) -> None:
        if self.error is None and self.on_commit is not None:
            _call(self.on_commit, self.result)
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


# An append is a plain tuple, since there are so many: the log, the record, its on_commit, its future.
_Append: TypeAlias = tuple[CommittedLog, bytes, OnCommit, asyncio.Future[int]]
_Write: TypeAlias = "_Append | _Job[Any]"


class Writer:
    """Runs jobs in order in its own thread and tells the event loop what was committed.

    Args:
        store: The store, as errors name it.
        connection: The connection to write with; the writer closes it in the end.
        loop: The event loop that asks and is told.
        wall_time: The clock, in seconds since the epoch; called in the writer's thread.
    """

    __slots__ = (
        "_closed",
        "_entries",
        "_finished",
        "_jobs",
        "_loop",
        "_store",
        "_thread",
        "_transaction",
        "_wall_time",
    )

    def __init__(
        self,
        store: str,
        connection: sqlite3.Connection,
        loop: asyncio.AbstractEventLoop,
        wall_time: Callable[[], float],
    ) -> None:
        self._store = store
        self._loop = loop
        self._wall_time = wall_time
        self._closed = False
        self._jobs: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._transaction = Transaction(connection, Appender(connection), 0.0)
        self._entries = self._transaction.entries
        self._finished = asyncio.Event()
        # A daemon, so that a program that forgot to close its store still ends; what was reported is on disk.
        self._thread = threading.Thread(target=self._run, name=f"waypost {store}", daemon=True)
        self._thread.start()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that is told of what was committed."""
        return self._loop

    def check(self) -> None:
        """Raise `StoreClosed` if nothing can be asked for any more."""
        if self._closed:
            raise StoreClosed(self._store)

    def append(self, log: CommittedLog, record: bytes, on_commit: OnCommit) -> asyncio.Future[int]:
        """Ask for a record to be appended to a journal.

        Args:
            log: The journal.
            record: What to append.
            on_commit: Called with its position.

        Returns:
            The position, once it is committed.

        Raises:
            StoreClosed: The store was closed.
            StorageError: The record is too large.
        """
        if self._closed:
            raise StoreClosed(self._store)
        if len(record) > _MAX_RECORD_BYTES:
            raise StorageError(self._store, f"a record of {len(record)} bytes, at most {_MAX_RECORD_BYTES} fit")
        future: asyncio.Future[int] = self._loop.create_future()
        self._jobs.put((log, record, on_commit, future))
        return future

    def submit(
        self, work: Callable[[Transaction], _T], on_commit: Callable[[_T], None] | None = None
    ) -> asyncio.Future[_T]:
        """Ask for a job to be done after all that was asked for before.

        Args:
            work: What to do, in the writer's thread. May be called again after a rollback.
            on_commit: Called in the event loop with its result once that is committed.

        Returns:
            The job's result, once it is committed.

        Raises:
            StoreClosed: The store was closed.
        """
        if self._closed:
            raise StoreClosed(self._store)
        future: asyncio.Future[_T] = self._loop.create_future()
        self._jobs.put(_Job(work, on_commit, future))
        return future

    async def close(self) -> None:
        """Finish what was asked for, and close the connection. Closing twice is fine."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
        await self._finished.wait()
        self._thread.join()

    def _run(self) -> None:
        running = True
        while running:
            batch, running = self._gather()
            if batch:
                self._write(batch)
        self._transaction.connection.close()
        self._tell(self._finished.set)

    def _gather(self) -> tuple[list[_Write], bool]:
        """Wait for a job and take what else is there; also tells whether there may be more."""
        batch: list[_Write] = []
        size = 0
        job = self._jobs.get()
        while job is not None:
            batch.append(job)
            if isinstance(job, tuple):
                size += len(job[1])
            if len(batch) >= _BATCH_JOBS or size >= _BATCH_BYTES or self._jobs.empty():
                return batch, True
            job = self._jobs.get()
        return batch, False

    def _write(self, batch: list[_Write]) -> None:
        try:
            self._transact(batch)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is handed to those who asked
            self._roll_back()
            if len(batch) > 1 and not _lacks_space(self._store, error):
                for job in batch:
                    self._write([job])
            else:
                self._tell(self._fail, batch, error)
        else:
            self._tell(self._deliver, batch)

    def _transact(self, batch: list[_Write]) -> None:
        transaction, append = self._transaction, self._entries.append
        transaction.now = self._wall_time()
        self._entries.begin(transaction.now)
        # Immediate, so that it waits for its turn if a command line tool is writing.
        transaction.connection.execute("BEGIN IMMEDIATE")
        for job in batch:
            if isinstance(job, tuple):
                append(job[0].id, job[1])
            else:
                job.run(transaction)
        self._entries.flush()
        transaction.connection.execute("COMMIT")

    def _roll_back(self) -> None:
        self._entries.forget()
        try:
            # After some errors SQLite has done so itself.
            if self._transaction.connection.in_transaction:
                self._transaction.connection.execute("ROLLBACK")
        except sqlite3.Error:
            # The next transaction can't begin then, and says so to those who ask.
            _logger.exception("%s: a transaction could not be rolled back", self._store)

    def _tell(self, callback: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:
            _logger.warning("%s: the event loop was closed before its store", self._store)

    def _deliver(self, batch: list[_Write]) -> None:
        for job in batch:
            if isinstance(job, tuple):
                log, record, on_commit, future = job
                position = log.committed(record)
                _call(on_commit, position)
                if not future.done():
                    future.set_result(position)
            else:
                job.deliver()

    def _fail(self, batch: list[_Write], error: Exception) -> None:
        for job in batch:
            future: asyncio.Future[Any] = job[3] if isinstance(job, tuple) else job.future
            if future.done():
                continue
            failure = error
            if isinstance(error, sqlite3.Error):
                failure = translate(self._store, error)
                failure.__cause__ = error
            future.set_exception(failure)


def _call(on_commit: Callable[[_T], None], result: _T) -> None:
    try:
        on_commit(result)
    except Exception:
        # The write is committed all the same, and the others must hear of theirs.
        _logger.exception("an on_commit raised, which it must not")


def _lacks_space(store: str, error: Exception) -> bool:
    return isinstance(error, sqlite3.Error) and isinstance(translate(store, error), StoreFull)
