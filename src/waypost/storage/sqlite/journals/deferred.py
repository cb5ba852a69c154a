"""Writes to a journal that are reported at once, and are on disk a little later.

Each write gets its position in the event loop, but only up to the last position reserved on disk. The next block is
reserved before the current one is used up. A write that can't have its position yet waits, and later writes wait too.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from waypost.errors import StorageError, StoreClosed
from waypost.storage.base import OnCommit
from waypost.storage.callbacks import report
from waypost.storage.sqlite.file import translate
from waypost.storage.sqlite.jobs import Transaction
from waypost.storage.sqlite.journals.log import Log
from waypost.storage.sqlite.journals.reserve import reserve
from waypost.storage.sqlite.journals.writes import Work
from waypost.storage.sqlite.writer import Writer

__all__ = ["BLOCK", "DeferredWrites"]

_T = TypeVar("_T")

BLOCK = 10_000
"""How many positions are reserved at a time."""

# The next block is reserved when so many are left.
_LEFT = BLOCK // 2


@dataclass(frozen=True, slots=True)
class _Waiting:
    effect: Callable[[], Any]
    takes_position: bool
    is_write: bool
    future: asyncio.Future[Any]


class DeferredWrites:
    """Reports a write at once; see `waypost.storage.sqlite.journals.writes.Writes`.

    Args:
        store: The store, as errors name it.
        log: Where the journal stands.
        writer: What to write with.
        reserved: The last position that is reserved.
        keys: The keys of the sessions that are stored.
    """

    __slots__ = (
        "_attaching",
        "_closed",
        "_keys",
        "_log",
        "_reserved",
        "_reserving",
        "_store",
        "_unflushed",
        "_waiting",
        "_writer",
    )

    def __init__(self, store: str, log: Log, writer: Writer, reserved: int, keys: set[bytes]) -> None:
        self._store = store
        self._log = log
        self._writer = writer
        self._unflushed = writer.unflushed
        self._reserved = reserved
        self._reserving = False
        self._keys = keys
        self._waiting: deque[_Waiting] = deque()
        self._attaching = 0
        self._closed = False
        self._unflushed.watch(self._go_on)

    async def append(self, record: bytes, on_commit: OnCommit) -> int:
        """Append a record; suspends only if it can't have a position yet."""
        self._writer.check_size(len(record))
        self._writer.check_room()
        if not self._waiting and not self._closed and self._has_place(takes_position=True):
            self._writer.check()
            return self._append(record, on_commit)
        return await self._in_turn(partial(self._append, record, on_commit), takes_position=True)

    async def begin(
        self, key: bytes, sid: str, size: int, work: Callable[[Transaction], int], on_commit: OnCommit
    ) -> int:
        """Store a session, unless its key is taken."""
        self._writer.check_size(size)

        def effect() -> int:
            if key in self._keys:
                raise StorageError(self._store, f"session {sid} is stored already")
            self._keys.add(key)
            return self._defer(work, size, on_commit)

        return await self._in_turn(effect)

    async def end(self, key: bytes, work: Work) -> None:
        """Forget a session."""

        def effect() -> None:
            self._keys.discard(key)
            self._writer.defer(work, 0)

        await self._in_turn(effect)

    async def attach(self, work: Callable[[Transaction], _T], on_commit: Callable[[_T], None]) -> _T:
        """Do a job that reads and writes; until it is done, writes wait, so that they are reported after it."""

        def effect() -> asyncio.Future[_T]:
            self._attaching += 1
            attaching = self._writer.submit(work, on_commit)
            attaching.add_done_callback(self._attached)
            return attaching

        return await (await self._in_turn(effect, is_write=False))

    def _attached(self, _attaching: asyncio.Future[Any]) -> None:
        self._attaching -= 1
        self._go_on()

    async def place(self, work: Callable[[Transaction], int], size: int, on_commit: OnCommit) -> int:
        """Do a job whose position counts."""
        return await self._in_turn(partial(self._defer, work, size, on_commit))

    async def change(self, work: Work, size: int) -> None:
        """Do a job."""
        self._writer.check_size(size)
        await self._in_turn(partial(self._writer.defer, work, size))

    def note(self, work: Work) -> None:
        """Run a job without a caller that waits; it may be lost, so waiting writes do not delay it."""
        self._writer.defer(work, 0)

    async def ask(self, work: Callable[[Transaction], _T]) -> _T:
        """Do a job that only reads."""
        return await (await self._in_turn(partial(self._writer.submit, work), is_write=False))

    def expired(self, key: bytes) -> None:
        """Note that a session is no longer stored."""
        self._keys.discard(key)

    async def finish(self) -> None:
        """Accept no more writes, and wait until all waiting ones have a position or an error."""
        self._closed = True
        if self._waiting:
            await asyncio.wait({waiting.future for waiting in self._waiting})
        self._unflushed.unwatch(self._go_on)

    async def _in_turn(self, effect: Callable[[], _T], *, takes_position: bool = False, is_write: bool = True) -> _T:
        if self._closed:
            raise StoreClosed(self._store)
        self._writer.check()
        if not self._waiting and (not is_write or self._has_place(takes_position=takes_position)):
            return effect()
        waiting = _Waiting(effect, takes_position, is_write, self._writer.loop.create_future())
        self._waiting.append(waiting)
        if takes_position and self._log.top >= self._reserved:
            self._reserve()
        self._go_on()
        result: _T = await waiting.future
        return result

    def _has_place(self, *, takes_position: bool) -> bool:
        if self._attaching or self._unflushed.is_full:
            return False
        return not takes_position or self._log.top < self._reserved

    def _append(self, record: bytes, on_commit: OnCommit) -> int:
        position = self._log.committed(record)
        self._writer.defer_append(self._log, record)
        if self._reserved - position < _LEFT:
            self._reserve()
        report(on_commit, position)
        return position

    def _defer(self, work: Work, size: int, on_commit: OnCommit) -> int:
        self._writer.defer(work, size)
        report(on_commit, self._log.top)
        return self._log.top

    def _go_on(self, failure: BaseException | None = None) -> None:
        """Assign positions to the waiting writes, in order, or pass them the error."""
        while self._waiting:
            head = self._waiting[0]
            reason = failure or self._unflushed.failure
            if head.future.done():
                self._waiting.popleft()
            elif not head.is_write or self._has_place(takes_position=head.takes_position):
                self._waiting.popleft()
                try:
                    head.future.set_result(head.effect())
                except StorageError as refusal:
                    head.future.set_exception(refusal)
            elif reason is not None:
                self._waiting.popleft()
                head.future.set_exception(self._refusal(reason))
            else:
                break

    def _reserve(self) -> None:
        if not self._reserving:
            self._reserving = True
            upto = self._reserved + BLOCK
            reserving = self._writer.submit(lambda tx: reserve(tx, self._log.id, upto))
            reserving.add_done_callback(partial(self._reserved_upto, upto))

    def _reserved_upto(self, upto: int, reserving: asyncio.Future[None]) -> None:
        self._reserving = False
        failure = reserving.exception()
        if failure is None:
            self._reserved = upto
        self._go_on(failure and (failure.__cause__ or failure))

    def _refusal(self, reason: BaseException) -> StorageError:
        # A new one for each who is refused.
        refusal = StorageError(self._store, str(reason))
        if isinstance(reason, sqlite3.Error):
            refusal = translate(self._store, reason)
        refusal.__cause__ = reason
        return refusal
