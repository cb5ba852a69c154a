"""The writer's jobs: appends to journals, single jobs, and requests that are done together."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from waypost.errors import StorageError
from waypost.logs import fields, get_logger
from waypost.storage.base import OnCommit
from waypost.storage.callbacks import report
from waypost.storage.sqlite.journals.entries import Appender

__all__ = [
    "DEFERRED_BYTES",
    "CommittedLog",
    "Flushed",
    "Gathered",
    "Job",
    "Transaction",
    "Write",
    "future_of",
    "is_emit",
    "run_all",
    "size_of",
    "tell",
    "units",
]

_logger = get_logger(__name__)

_T = TypeVar("_T")
_R = TypeVar("_R")

DEFERRED_BYTES = 512
"""The bytes that a deferred write counts for, in addition to its content."""


class CommittedLog(Protocol):
    """The event loop's side of a journal."""

    @property
    def id(self) -> int:
        """The journal's number in the file."""
        ...

    def committed(self, record: bytes) -> int:
        """Note that a record was committed; returns its position, the next one."""
        ...

    def flushed(self, entries: int) -> None:
        """Note that this many more of the deferred records are on disk."""
        ...


@dataclass(slots=True)
class Flushed:
    """Deferred writes that are on disk now.

    Attributes:
        size: Their size, as `Unflushed` counts it.
        entries: How many appends each journal had among them.
    """

    size: int = 0
    entries: dict[CommittedLog, int] = field(default_factory=dict)

    def note(self, store: str, batch: list[Write]) -> None:
        """Note the deferred writes of a batch that was committed.

        Args:
            store: The store, as the log names it.
            batch: Writes of all kinds.
        """
        for job in batch:
            if future_of(job) is not None:
                continue
            self.size += size_of(job)
            if isinstance(job, tuple):
                self.entries[job[0]] = self.entries.get(job[0], 0) + 1
            elif job.error is not None:
                _logger.error(
                    "%s: a write that was reported was refused: %s", store, job.error, extra=fields(store=store)
                )


@dataclass(slots=True)
class Transaction:
    """The tools of a job, in the writer's thread.

    Attributes:
        connection: The connection, inside a transaction.
        entries: Appends to journals, and knows their tops in the order of writes.
        now: The time at which the transaction began, on the store's clock, in seconds.
    """

    connection: sqlite3.Connection
    entries: Appender
    now: float


class Job(Generic[_T]):
    """A job; without a future it is a deferred one, of ``size`` bytes."""

    __slots__ = ("error", "future", "on_commit", "result", "size", "work")

    result: _T

    def __init__(
        self,
        work: Callable[[Transaction], _T],
        on_commit: Callable[[_T], None] | None,
        future: asyncio.Future[_T] | None,
        size: int,
    ) -> None:
        self.work = work
        self.on_commit = on_commit
        self.future = future
        self.size = size
        self.error: StorageError | None = None

    def run(self, transaction: Transaction) -> None:
        """Do it, in the writer's thread."""
        self.error = None
        try:
            self.result = self.work(transaction)
        except StorageError as refusal:
            self.error = refusal


class Gathered(Generic[_R, _T]):
    """A request that is done together with its neighbours: ``together`` gives each of them its result or error."""

    __slots__ = ("error", "future", "on_commit", "request", "result", "size", "together")

    result: _T

    def __init__(
        self,
        together: Callable[[Transaction, list[Gathered[_R, _T]]], None],
        request: _R,
        on_commit: Callable[[_T], None] | None,
        future: asyncio.Future[_T] | None,
        size: int,
    ) -> None:
        self.together = together
        self.request = request
        self.on_commit = on_commit
        self.future = future
        self.size = size
        self.error: StorageError | None = None


def tell(job: Job[_T] | Gathered[Any, _T]) -> None:
    """Pass a job's result or error to its caller, in the event loop."""
    if job.error is None and job.on_commit is not None:
        report(job.on_commit, job.result)
    if job.future is None or job.future.done():
        return
    if job.error is None:
        job.future.set_result(job.result)
    else:
        job.future.set_exception(job.error)


# An append is a plain tuple, since there are so many: the log, the record, its on_commit, its future. A deferred
# one has neither of these two.
_Append: TypeAlias = tuple[CommittedLog, bytes, OnCommit | None, asyncio.Future[int] | None]
Write: TypeAlias = "_Append | Job[Any] | Gathered[Any, Any]"
"""All kinds of requests to the writer."""


def run_all(transaction: Transaction, batch: list[Write]) -> None:
    """Run the writes of a batch, those of one kind that stand together at once."""
    append = transaction.entries.append
    gathered: list[Gathered[Any, Any]] = []
    for job in batch:
        if isinstance(job, tuple):
            append(job[0].id, job[1])
            continue
        if gathered and not (isinstance(job, Gathered) and job.together == gathered[0].together):
            gathered[0].together(transaction, gathered)
            gathered = []
        if isinstance(job, Gathered):
            gathered.append(job)
        else:
            job.run(transaction)
    if gathered:
        gathered[0].together(transaction, gathered)


def future_of(job: Write) -> asyncio.Future[Any] | None:
    """Return the future of a write; ``None`` for a deferred one."""
    return job[3] if isinstance(job, tuple) else job.future


def is_emit(job: Write) -> bool:
    """Return whether a write adds an event or a message, and may be refused."""
    return future_of(job) is not None and isinstance(job, tuple | Gathered)


def size_of(job: Write) -> int:
    """Return a write's size in memory, as `Unflushed` counts it."""
    return DEFERRED_BYTES + (len(job[1]) if isinstance(job, tuple) else job.size)


def units(batch: list[Write]) -> list[list[Write]]:
    """Split a batch into what may fail alone: each job, and each run of deferred ones."""
    found: list[list[Write]] = []
    in_run = False
    for job in batch:
        is_deferred = future_of(job) is None
        if in_run and is_deferred:
            found[-1].append(job)
        else:
            found.append([job])
        in_run = is_deferred
    return found
