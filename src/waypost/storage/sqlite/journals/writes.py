"""How writes to a journal are reported: the two ways' common form, and the way that waits for the disk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from waypost.storage.base import OnCommit
from waypost.storage.sqlite.jobs import Transaction
from waypost.storage.sqlite.journals.log import Log
from waypost.storage.sqlite.writer import Writer

__all__ = ["CommittedWrites", "Work", "Writes"]

_logger = logging.getLogger(__name__)

_T = TypeVar("_T")

Work = Callable[[Transaction], object]


class Writes(Protocol):
    """Writes to one journal, in the order in which they are asked for."""

    def append(self, record: bytes, on_commit: OnCommit) -> Awaitable[int]:
        """Append a record; gives its position."""
        ...

    def begin(
        self, key: bytes, sid: str, size: int, work: Callable[[Transaction], int], on_commit: OnCommit
    ) -> Awaitable[int]:
        """Store a session, of that many bytes, by a job that refuses a key that is taken; gives its start."""
        ...

    def end(self, key: bytes, work: Work) -> Awaitable[object]:
        """Forget a session by a job."""
        ...

    def attach(self, work: Callable[[Transaction], _T], on_commit: Callable[[_T], None]) -> Awaitable[_T]:
        """Do a job that reads and writes; what is written later is reported later."""
        ...

    def place(self, work: Callable[[Transaction], int], size: int, on_commit: OnCommit) -> Awaitable[int]:
        """Do a job, of that many bytes, whose position counts; it returns the top, which is given."""
        ...

    def change(self, work: Work, size: int) -> Awaitable[object]:
        """Do a job of that many bytes."""
        ...

    def note(self, work: Work) -> None:
        """Do a job that nobody waits for and that may be lost."""
        ...

    def ask(self, work: Callable[[Transaction], _T]) -> Awaitable[_T]:
        """Do a job that only reads, but sees all writes asked for earlier."""
        ...

    def expired(self, key: bytes) -> None:
        """Take note that the store has forgotten a session."""
        ...

    async def finish(self) -> None:
        """Take no more, and wait until what was asked for is in the writer's hands."""
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
        """Do a job that nobody waits for."""
        self._writer.submit(work).add_done_callback(_heed)

    def ask(self, work: Callable[[Transaction], _T]) -> Awaitable[_T]:
        """Do a job that only reads."""
        return self._writer.submit(work)

    def expired(self, key: bytes) -> None:
        """Nothing to do: what is stored is known from the file alone."""

    async def finish(self) -> None:
        """Nothing to wait for: all that was asked for is in the writer's hands."""


def _heed(written: asyncio.Future[object]) -> None:
    # Clients prove more with each heartbeat, so what was not written now is made good by the next.
    if not written.cancelled() and (error := written.exception()):
        _logger.warning("what sessions have proven was not written: %s", error)
