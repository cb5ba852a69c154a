"""The two ways of reporting writes to a journal: their common interface, and the way that waits for the disk."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from waypost.logs import get_logger
from waypost.storage.base import OnCommit
from waypost.storage.sqlite.jobs import Transaction
from waypost.storage.sqlite.journals.log import Log
from waypost.storage.sqlite.writer import Writer

__all__ = ["CommittedWrites", "Work", "Writes"]

_logger = get_logger(__name__)

_T = TypeVar("_T")

Work = Callable[[Transaction], object]


class Writes(Protocol):
    """Writes to one journal, in the order of the calls."""

    def append(self, record: bytes, on_commit: OnCommit) -> Awaitable[int]:
        """Append a record; returns its position."""
        ...

    def begin(
        self, key: bytes, sid: str, size: int, work: Callable[[Transaction], int], on_commit: OnCommit
    ) -> Awaitable[int]:
        """Store a session of ``size`` bytes with a job that refuses a key in use; returns its start."""
        ...

    def end(self, key: bytes, work: Work) -> Awaitable[object]:
        """Forget a session by a job."""
        ...

    def attach(self, work: Callable[[Transaction], _T], on_commit: Callable[[_T], None]) -> Awaitable[_T]:
        """Run a job that reads and writes; later writes are reported later."""
        ...

    def place(self, work: Callable[[Transaction], int], size: int, on_commit: OnCommit) -> Awaitable[int]:
        """Run a job of ``size`` bytes that returns the journal's top; returns that position."""
        ...

    def change(self, work: Work, size: int) -> Awaitable[object]:
        """Run a job of ``size`` bytes."""
        ...

    def note(self, work: Work) -> None:
        """Run a job without a caller that waits; it may be lost."""
        ...

    def ask(self, work: Callable[[Transaction], _T]) -> Awaitable[_T]:
        """Run a job that only reads, but sees all earlier writes."""
        ...

    def expired(self, key: bytes) -> None:
        """Note that the store has removed a session."""
        ...

    async def finish(self) -> None:
        """Accept no more writes, and wait until the writer has all pending ones."""
        ...


class CommittedWrites:
    """Reports a write when it is on disk; see `Writes`.

    Args:
        log: Where the journal stands.
        writer: What to write with.
    """

    __slots__ = ("_log", "_writer")

    def __init__(self, log: Log, writer: Writer) -> None:
        self._log = log
        self._writer = writer

    def append(self, record: bytes, on_commit: OnCommit) -> Awaitable[int]:
        """Append a record."""
        return self._writer.append(self._log, record, on_commit)

    def begin(
        self, key: bytes, sid: str, size: int, work: Callable[[Transaction], int], on_commit: OnCommit
    ) -> Awaitable[int]:
        """Store a session."""
        return self._writer.submit(work, on_commit)

    def end(self, key: bytes, work: Work) -> Awaitable[object]:
        """Forget a session."""
        return self._writer.submit(work)

    def attach(self, work: Callable[[Transaction], _T], on_commit: Callable[[_T], None]) -> Awaitable[_T]:
        """Do a job that reads and writes."""
        return self._writer.submit(work, on_commit)

    def place(self, work: Callable[[Transaction], int], size: int, on_commit: OnCommit) -> Awaitable[int]:
        """Do a job whose position counts."""
        return self._writer.submit(work, on_commit)

    def change(self, work: Work, size: int) -> Awaitable[object]:
        """Do a job."""
        return self._writer.submit(work)

    def note(self, work: Work) -> None:
        """Run a job without a caller that waits."""
        self._writer.submit(work).add_done_callback(_heed)

    def ask(self, work: Callable[[Transaction], _T]) -> Awaitable[_T]:
        """Do a job that only reads."""
        return self._writer.submit(work)

    def expired(self, key: bytes) -> None:
        """Do nothing: only the file knows the stored sessions."""

    async def finish(self) -> None:
        """Do nothing: the writer has all pending writes."""


def _heed(written: asyncio.Future[object]) -> None:
    # Clients prove more with each heartbeat, so what was not written now is made good by the next.
    if not written.cancelled() and (error := written.exception()):
        _logger.warning("what sessions have proven was not written: %s", error)
