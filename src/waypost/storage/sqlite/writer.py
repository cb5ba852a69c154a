"""The one thread that writes to the store's file, and its group commit.

Writes come as jobs. A transaction takes what gathered while the last one ran, up to a limit, and the
results of all its jobs go to the event loop in one call: nobody waits for others to come, many share a flush.

Deferred writes are those that nobody waits for, as they were reported already. They may gather for a moment, and
are tried again, in order, for as long as they can't be written.

A job may refuse, by raising a `StorageError` before it has written anything; that concerns nobody else. If it
raises anything else, the transaction is rolled back and its jobs run again one by one, so that only it fails.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from copy import copy
from time import perf_counter_ns
from typing import TypeVar

from waypost.errors import StorageError, StoreClosed, StoreLost
from waypost.logs import fields, get_logger
from waypost.retrying import RetryPolicy
from waypost.storage.base import OnCommit
from waypost.storage.callbacks import report
from waypost.storage.clock import StoreClock
from waypost.storage.sqlite.condition import Condition
from waypost.storage.sqlite.disk_room import DiskRoom
from waypost.storage.sqlite.file import lacks_space, translate
from waypost.storage.sqlite.guard import Guard
from waypost.storage.sqlite.incoming import Incoming
from waypost.storage.sqlite.jobs import (
    DEFERRED_BYTES,
    CommittedLog,
    Flushed,
    Gathered,
    Job,
    Transaction,
    Write,
    future_of,
    is_emit,
    run_all,
    tell,
    units,
)
from waypost.storage.sqlite.journals.entries import Appender
from waypost.storage.sqlite.journals.unflushed import Unflushed
from waypost.storage.sqlite.lookout import Lookout
from waypost.storage.sqlite.noted_clock import ClockNotes
from waypost.storage.sqlite.patience import ASK_EVERY_S, Patience, is_locked
from waypost.storage.sqlite.sums import is_undecodable, leniently
from waypost.storage.sqlite.turns import Turns
from waypost.storage.store_numbers import Commits
from waypost.storage.trouble import Trouble

__all__ = ["LARGEST_RECORD_BYTES", "Writer"]

_logger = get_logger(__name__)

_T = TypeVar("_T")
_R = TypeVar("_R")

# The pause does not grow: everything that is asked for meanwhile waits behind it.
_RETRIES = RetryPolicy(first_s=0.5, longest_s=0.5)
LARGEST_RECORD_BYTES = 500_000_000
"""Half of what SQLite can hold in a value."""


class Writer:
    """Runs jobs in order in its own thread, and reports commits to the event loop.

    Args:
        store: The store, as errors name it.
        connection: The connection for writing; the writer closes it in the end.
        loop: The event loop that submits jobs and gets the reports.
        clock: The clock that durations are measured on; read in the writer's thread.
        guard: Watches over the file; ``None`` for a visitor, which does not own it.
        room: Decides whether emits may be written; ``None`` for a visitor, which emits nothing.
        commits: Counts the transactions.
        turns: Begins its transactions.
        patience_s: Seconds for which each write waits while another program holds the lock.

    Attributes:
        unflushed: The deferred writes that are not on disk yet.
    """

    __slots__ = (
        "_clock",
        "_closed",
        "_commits",
        "_condition",
        "_entries",
        "_failure",
        "_finished",
        "_guard",
        "_incoming",
        "_lookout",
        "_loop",
        "_notes",
        "_patience",
        "_room",
        "_store",
        "_thread",
        "_transaction",
        "_turns",
        "unflushed",
    )

    def __init__(
        self,
        store: str,
        connection: sqlite3.Connection,
        loop: asyncio.AbstractEventLoop,
        clock: StoreClock,
        guard: Guard | None = None,
        room: DiskRoom | None = None,
        *,
        commits: Commits,
        turns: Turns,
        patience_s: float,
    ) -> None:
        self._room = room
        self._guard = guard
        self._condition = Condition(guard, room)
        self._store = store
        self._loop = loop
        self._clock = clock
        self._notes = ClockNotes(clock, store)
        self._turns = turns
        self._commits = commits
        self._patience = Patience(patience_s)
        connection.execute(f"PRAGMA busy_timeout = {int(min(patience_s, ASK_EVERY_S) * 1000)}")
        self._closed = False
        self._lookout = Lookout(store, connection, guard, turns, self._tell)
        self.unflushed = Unflushed()
        # For the writer's thread: why deferred writes can't be written.
        self._failure: Exception | None = None
        self._incoming = Incoming()
        self._transaction = Transaction(connection, Appender(connection), 0.0)
        self._entries = self._transaction.entries
        self._finished = asyncio.Event()
        # A daemon, so that a program that forgot to close its store still ends; what was reported is on disk.
        self._thread = threading.Thread(target=self._run, name=f"waypost {store}", daemon=True)
        self._thread.start()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that gets the reports of commits."""
        return self._loop

    def check(self) -> None:
        """Check that the writer accepts jobs.

        Raises:
            StoreClosed: The store was closed.
            StoreLost: Its file was lost.
        """
        if self._closed:
            raise StoreClosed(self._store)
        if self._guard is not None and self._guard.lost is not None:
            raise copy(self._guard.lost)

    def check_room(self) -> None:
        """Check that emits were not refused lately for want of space; for those that are reported at once.

        Raises:
            StoreFull: The reserve of the disk is reached.
        """
        if self._room is not None:
            self._room.check()

    def append(self, log: CommittedLog, record: bytes, on_commit: OnCommit) -> asyncio.Future[int]:
        """Append a record to a journal.

        Args:
            log: The journal.
            record: The record.
            on_commit: Called with the record's position.

        Returns:
            A future of the position, done at the commit.

        Raises:
            StoreClosed: The store was closed.
            StorageError: The record is too large.
        """
        if self._closed:
            raise StoreClosed(self._store)
        self.check_size(len(record))
        future: asyncio.Future[int] = self._loop.create_future()
        self._incoming.put((log, record, on_commit, future))
        return future

    def check_size(self, size: int) -> None:
        """Check the size of a record.

        Raises:
            StorageError: The record is too large.
        """
        if size > LARGEST_RECORD_BYTES:
            raise StorageError(self._store, f"a record of {size} bytes, at most {LARGEST_RECORD_BYTES} fit")

    def submit(
        self, work: Callable[[Transaction], _T], on_commit: Callable[[_T], None] | None = None
    ) -> asyncio.Future[_T]:
        """Run a job after all earlier ones.

        Args:
            work: The job, called in the writer's thread. It may be called again after a rollback.
            on_commit: Called in the event loop with the job's result at the commit.

        Returns:
            A future of the job's result, done at the commit.

        Raises:
            StoreClosed: The store was closed.
        """
        if self._closed:
            raise StoreClosed(self._store)
        future: asyncio.Future[_T] = self._loop.create_future()
        self._incoming.put(Job(work, on_commit, future, 0))
        return future

    def gather(
        self,
        together: Callable[[Transaction, list[Gathered[_R, _T]]], None],
        request: _R,
        size: int,
        on_commit: Callable[[_T], None],
    ) -> asyncio.Future[_T]:
        """Run a request together with its neighbours of the same kind; otherwise as `submit`.

        Args:
            together: Handles many requests, in the writer's thread. It may be called again after a rollback, with
                fewer.
            request: The request.
            size: The request's size in memory, in bytes.
            on_commit: Called in the event loop with the request's result at the commit.
        """
        if self._closed:
            raise StoreClosed(self._store)
        future: asyncio.Future[_T] = self._loop.create_future()
        self._incoming.put(Gathered(together, request, on_commit, future, size))
        return future

    def defer_append(self, log: CommittedLog, record: bytes) -> None:
        """Append a record that is reported already; the log is notified when it is on disk."""
        self.unflushed.add(len(record) + DEFERRED_BYTES)
        self._incoming.put_deferred((log, record, None, None))

    def defer(self, work: Callable[[Transaction], object], size: int) -> None:
        """Run a job that is reported already.

        Args:
            work: The job, called in the writer's thread. It may be called again after a rollback.
            size: The job's size in memory, in bytes.
        """
        self.unflushed.add(size + DEFERRED_BYTES)
        self._incoming.put_deferred(Job(work, None, None, size))

    def troubles(self) -> tuple[Trouble, ...]:
        """Return what keeps it from writing all that it should."""
        return self._condition.troubles()

    def watch(self, changed: Callable[[], None]) -> None:
        """Call a function in the event loop when another program has written to the file."""
        self._lookout.watch(changed)
        # What the writer's thread is in may be a wait that looks at nothing.
        self.submit(lambda _: None)

    def watch_loss(self, lost: Callable[[StoreLost], None]) -> None:
        """Call a function in the event loop when the file is lost; at most once."""
        self._lookout.watch_loss(lost)

    async def close(self) -> None:
        """Finish the pending jobs, and close the connection. A second call does nothing."""
        if not self._closed:
            self._closed = True
            self._incoming.close()
        await self._finished.wait()
        self._thread.join()

    # -- in the writer's thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        kept: list[Write] = []
        running = True
        while running or self._patience.is_left:
            if kept:
                # The lock was waited for already.
                pause_s = 0.0 if self._patience.is_left else _RETRIES.pause_s(1)
                came, is_open = self._incoming.gather_behind(pause_s)
            else:
                came, is_open = self._incoming.gather(self._wait())
            running = running and is_open
            # What was kept was looked at when it came, and is counted by those that wait for the lock.
            batch = kept + self._refuse_emits(came, kept)
            if batch:
                self._condition.begin()
            kept = self._write(batch) if batch else []
            if not kept:
                self._condition.end()
        if kept:
            _logger.error(
                "%s: closed with %d writes that could not be written",
                self._store,
                len(kept),
                extra=fields(store=self._store, count=len(kept)),
            )
        self._turns.close()
        self._transaction.connection.close()
        self._tell(self._finished.set)

    def _wait(self) -> Write | None:
        """Wait for a job, and meanwhile look whether another program has written to the file."""
        while (pause_s := self._lookout.pause_s) is not None:
            try:
                return self._incoming.first(pause_s)
            except queue.Empty:
                if self._lookout.has_watchers:
                    self._lookout.look()
                if self._guard is not None:
                    self._watch_over(self._guard)
                if self._room is not None:
                    self._room.look(self._transaction.connection)
        return self._incoming.first(None)

    def _watch_over(self, guard: Guard) -> None:
        """Look at the file while nothing is written, and move its mark if the last commit did not."""
        try:
            if guard.mark.is_sealed:
                guard.before(self._transaction.connection)
            else:
                self._transact([])
            self._lookout.mark_moved()
        except StoreLost as lost:
            self._roll_back()
            self._lookout.note_loss(lost)
        except sqlite3.Error as error:
            self._roll_back()
            # Behind a lock it is moved with the next commit, or the next time.
            if not is_locked(error):
                self._lookout.mark_failed(error)

    def _refuse_emits(self, came: list[Write], kept: list[Write]) -> list[Write]:
        """Refuse emits that would use the reserve of the disk, behind what was kept.

        Args:
            came: New writes.
            kept: The writes that wait already.

        Returns:
            The other new writes.
        """
        if self._room is None or not came:
            return came
        refused, short = self._room.refuse(self._transaction.connection, came, kept)
        if short is None:
            return came
        self._tell(self._fail, refused, short)
        return [job for job in came if not is_emit(job)]

    def _write(self, batch: list[Write]) -> list[Write]:
        """Write a batch; returns what of it is still to be written."""
        began = perf_counter_ns()
        try:
            try:
                self._transact(batch)
            except sqlite3.OperationalError as error:
                if not is_undecodable(error):
                    raise
                self._roll_back()
                with leniently(self._transaction.connection):
                    self._transact(batch)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is handed to those who asked
            self._roll_back()
            if isinstance(error, StoreLost):
                self._lookout.note_loss(error)
            if is_locked(error):
                return self._wait_on(batch, error)
            parts = [batch] if isinstance(error, StoreLost) or lacks_space(self._store, error) else units(batch)
            if len(parts) == 1:
                return self._keep(batch, error)
            return self._write_each(parts, error)
        self._commits.committed(perf_counter_ns() - began, len(batch))
        self._written(batch)
        return []

    def _wait_on(self, batch: list[Write], error: Exception) -> list[Write]:
        """Fail what has waited for the lock long enough; returns the rest, which waits on."""
        overdue = self._patience.overdue(len(batch))
        kept = self._keep(batch[:overdue], error) if overdue else []
        self._patience.keep(len(kept))
        return kept + batch[overdue:]

    def _write_each(self, parts: list[list[Write]], error: Exception) -> list[Write]:
        kept: list[Write] = []
        for unit in parts:
            # What stands behind deferred writes that have to wait can't overtake them.
            kept += self._keep(unit, self._failure or error) if kept else self._write(unit)
        return kept

    def _keep(self, batch: list[Write], error: Exception) -> list[Write]:
        """Pass the error of a batch to its callers; returns the deferred writes, which are kept."""
        asked = [job for job in batch if future_of(job) is not None]
        kept = [job for job in batch if future_of(job) is None]
        if asked:
            self._tell(self._fail, asked, error)
        if kept and self._failure is None:
            self._failure = error
            _logger.error(
                "%s: what was reported can't be written to disk, and is tried again until it can: %s",
                self._store,
                error,
                extra=fields(store=self._store),
            )
            self._tell(self.unflushed.failed, error)
        return kept

    def _written(self, batch: list[Write]) -> None:
        asked = [job for job in batch if future_of(job) is not None]
        flushed = Flushed()
        if len(asked) < len(batch):
            flushed.note(self._store, batch)
        if flushed.size and self._failure is not None:
            self._failure = None
            _logger.warning(
                "%s: what was reported can be written to disk again", self._store, extra=fields(store=self._store)
            )
            self._tell(self.unflushed.failed, None)
        self._tell(self._deliver, asked, flushed)

    def _transact(self, batch: list[Write]) -> None:
        transaction = self._transaction
        transaction.now = self._clock.now()
        self._entries.begin(transaction.now)
        if self._guard is not None:
            self._guard.before(transaction.connection)
        self._turns.begin(transaction.connection)
        self._patience.end()
        if self._guard is not None or self._lookout.has_watchers:
            self._lookout.look()
        if self._guard is not None:
            self._guard.within(transaction.connection)
        self._notes.begin(transaction.connection, transaction.now)
        run_all(transaction, batch)
        self._entries.flush()
        transaction.connection.execute("COMMIT")
        self._turns.ended()
        self._notes.committed()
        if self._guard is not None:
            self._guard.after()

    def _roll_back(self) -> None:
        self._entries.forget()
        try:
            # After some errors SQLite has done so itself.
            if self._transaction.connection.in_transaction:
                self._transaction.connection.execute("ROLLBACK")
        except sqlite3.Error:
            # The next transaction can't begin then, and says so to those who ask.
            _logger.exception(
                "%s: a transaction could not be rolled back", self._store, extra=fields(store=self._store)
            )

    def _tell(self, callback: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:
            _logger.warning(
                "%s: the event loop was closed before its store", self._store, extra=fields(store=self._store)
            )

    # -- in the event loop ----------------------------------------------------------------------------------

    def _deliver(self, batch: list[Write], flushed: Flushed) -> None:
        for log, entries in flushed.entries.items():
            log.flushed(entries)
        if flushed.size:
            self.unflushed.written(flushed.size)
        for job in batch:
            if isinstance(job, tuple):
                log, record, on_commit, future = job
                position = log.committed(record)
                if on_commit is not None:
                    report(on_commit, position)
                if future is not None and not future.done():
                    future.set_result(position)
            else:
                tell(job)

    def _fail(self, batch: list[Write], error: Exception) -> None:
        self._commits.failed(len(batch))
        for job in batch:
            future = future_of(job)
            if future is None or future.done():
                continue
            # Each caller gets an error of its own: a traceback is added to it where it is raised.
            failure = copy(error) if isinstance(error, StorageError) else error
            if isinstance(error, sqlite3.Error):
                failure = translate(self._store, error)
                failure.__cause__ = error
            future.set_exception(failure)
