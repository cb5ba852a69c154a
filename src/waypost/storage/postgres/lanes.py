"""Ordered writes: one lane for each journal and each queue.

At most one call of a lane is under way. What is asked for meanwhile goes along with the next call, in the order in
which it was asked for. No call is cancelled and none has a timeout; a call whose answer was lost is settled before
the lane goes on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from waypost.errors import StorageError, StorageUncertain, StoreClosed
from waypost.logs import get_logger
from waypost.storage.callbacks import report
from waypost.storage.postgres.driver import Connection, EngineGone, Pool, Refusal, Warned
from waypost.storage.postgres.problems import problem_of
from waypost.storage.postgres.uncertain import Settled, settle
from waypost.storage.store_numbers import Commits

__all__ = ["Identity", "Lane", "LaneWork", "Mark", "Write", "settle_each"]

_logger = get_logger(__name__)

_T = TypeVar("_T")

_FENCED: Final = "WP001"
MOST_WRITES: Final = 1024
"""The most writes of one call."""
MOST_BYTES: Final = 4 << 20
"""The bytes of one call, unless one write alone has more."""
MOST_WAITING: Final = 100_000
"""The most writes that wait in a lane; more are refused at once."""
MOST_WAITING_BYTES: Final = 64 << 20
"""The bytes of the writes that wait in a lane, beyond which more are refused at once."""


class Mark(NamedTuple):
    """The mark that a call leaves beside what it writes, so that a lost answer can be settled.

    Attributes:
        node: The node's number.
        incarnation: The node's incarnation.
        batch: The number of the call among those of the node.
    """

    node: int
    incarnation: int
    batch: int


class Identity(Protocol):
    """The writer: this node, in its present incarnation."""

    @property
    def id(self) -> int:
        """The node's number."""
        ...

    @property
    def incarnation(self) -> int:
        """The node's present incarnation."""
        ...

    async def renew(self, old: int) -> int:
        """Have a later incarnation than one, and return it: calls of earlier ones that still run change nothing.

        Raises:
            EngineGone: The engine can't be reached.
            Refusal: The engine refuses it.
            StorageError: The node can't go on.
        """
        ...


@dataclass(slots=True, eq=False)
class Write(Generic[_T]):
    """One write that somebody asked for.

    Attributes:
        operation: What it does, in words, for errors.
        payload: What the lane sends for it.
        applied: Called in the loop, in the order of the lane, once the write can't be lost.
        future: Resolves after ``applied``.
        size: The bytes that it sends, about.
        ids: The ids of the messages that it adds to a queue.
    """

    operation: str
    payload: Any
    applied: Callable[[_T], None]
    future: asyncio.Future[_T]
    size: int = 0
    ids: tuple[str, ...] = ()

    def fail(self, error: BaseException) -> None:
        """Tell who has asked for it."""
        if not self.future.done():
            self.future.set_exception(error)

    def succeed(self, result: _T) -> None:
        """Report the result, then let go on who has asked for it."""
        report(self.applied, result)
        if not self.future.done():
            self.future.set_result(result)


class LaneWork(Protocol):
    """The calls of a lane: special to journals, and to queues."""

    def split(self, writes: Sequence[Write[Any]]) -> int:
        """Return how many of the writes, from the first on, go together as one call; from 1."""
        ...

    async def send(self, connection: Connection, writes: Sequence[Write[Any]], mark: Mark) -> Any:
        """Make one call; returns its answer. It is all or nothing.

        Raises:
            EngineGone: The connection broke.
            Refusal: Nothing was done.
            Warned: It is uncertain.
        """
        ...

    async def settle(self, connection: Connection, writes: Sequence[Write[Any]], mark: Mark, by: Mark) -> Any | None:
        """Find out whether a call was done whose answer was lost; returns its answer, or ``None`` if it was not.

        It takes the lock under which the lane writes, and leaves a mark of its own, committed synchronously, before
        it answers. The call's incarnation is over, so it can't be done later.

        Args:
            connection: The connection.
            writes: What the call sent.
            mark: The call's mark.
            by: The mark of this call.
        """
        ...

    def finish(self, writes: Sequence[Write[Any]], answer: Any, mark: Mark) -> None:
        """Report a call that was done: now, or when its turn has come."""
        ...

    def lose(self, mark: Mark) -> None:
        """Note that nobody knows whether a call was done, and that who asked for it was told so."""
        ...


def settle_each(writes: Sequence[Write[Any]], results: Sequence[Any]) -> None:
    """Report the results of writes in their order; an exception among them is raised for its write alone."""
    for write, result in zip(writes, results, strict=True):
        if isinstance(result, BaseException):
            write.fail(result)
        else:
            write.succeed(result)


class Lane:
    """Writes in one order, through one call at a time.

    Args:
        store: The store, as errors name it.
        pool: Where a call gets its connection.
        identity: Who writes.
        batches: The numbers of calls, of which none is used twice in an incarnation.
        work: What the calls are.
        patience_s: Seconds for which an uncertain call is settled before it is raised as uncertain.
        commits: Counts the calls.
    """

    __slots__ = (
        "_asked",
        "_batches",
        "_commits",
        "_done",
        "_failed",
        "_identity",
        "_is_closed",
        "_patience_s",
        "_pool",
        "_sent",
        "_settling",
        "_store",
        "_task",
        "_waiting",
        "_waiting_bytes",
        "_work",
    )

    def __init__(
        self,
        store: str,
        pool: Pool,
        identity: Identity,
        batches: Iterator[int],
        work: LaneWork,
        patience_s: float,
        commits: Commits,
    ) -> None:
        self._commits = commits
        self._store = store
        self._pool = pool
        self._identity = identity
        self._batches = batches
        self._work = work
        self._patience_s = patience_s
        self._waiting: deque[Write[Any]] = deque()
        self._waiting_bytes = 0
        self._sent: list[Write[Any]] = []
        self._settling: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._asked = self._done = self._failed = 0
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is under way."""
        return self._task is None

    def add(self, write: Write[_T]) -> asyncio.Future[_T]:
        """Ask for a write. Its place is behind all that were asked for before.

        Raises:
            StorageError: The engine can't be reached at the moment; nothing was done.
            StoreClosed: The lane is closed.
        """
        if self._is_closed:
            raise StoreClosed(self._store)
        if self._pool.gone is not None:
            raise problem_of(self._store, self._pool.gone)
        if len(self._waiting) >= MOST_WAITING or self._waiting_bytes >= MOST_WAITING_BYTES:
            number = len(self._waiting)
            raise StorageError(self._store, f"PostgreSQL does not answer: {number} writes wait; nothing was stored")
        self._waiting.append(write)
        self._waiting_bytes += write.size
        self._asked += 1
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
        return write.future

    async def settled(self) -> None:
        """Wait until all that was asked for is done, or has failed. May be cancelled."""
        if self._task is None:
            return
        future = asyncio.get_running_loop().create_future()
        self._settling.append((self._asked, future))
        await future

    async def close(self) -> None:
        """Take nothing more, and finish what was asked for, as long as there is patience for it."""
        self._is_closed = True
        task = self._task
        if task is None:
            return
        await asyncio.wait([task], timeout=self._patience_s)
        if not task.done():
            for write in self._sent:
                reason = "the store was closed while PostgreSQL did not answer"
                write.fail(StorageUncertain(self._store, write.operation, reason, ids=write.ids))
            self._fail([*self._waiting], StoreClosed(self._store))
            self._waiting.clear()
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        # The writes of this turn of the loop go together.
        await asyncio.sleep(0)
        try:
            while self._waiting:
                self._sent = batch = self._take()
                try:
                    await self._write(batch)
                except Exception as error:
                    _logger.exception("a write failed in a way that was not foreseen")
                    for write in batch:
                        write.fail(error)
                self._told(len(batch))
        finally:
            self._task = None
            self._sent = []

    def _told(self, number: int) -> None:
        # What was failed while this batch was settled came after it.
        self._done += number + self._failed
        self._failed = 0
        while self._settling and self._settling[0][0] <= self._done:
            _, future = self._settling.popleft()
            if not future.done():
                future.set_result(None)

    def _take(self) -> list[Write[Any]]:
        size = number = 0
        for write in self._waiting:
            size += write.size
            if number and (number >= MOST_WRITES or size > MOST_BYTES):
                break
            number += 1
        batch = [self._waiting[index] for index in range(number)]
        batch = batch[: self._work.split(batch)]
        for write in batch:
            self._waiting.popleft()
            self._waiting_bytes -= write.size
        return batch

    async def _write(self, batch: list[Write[Any]]) -> None:
        while True:
            mark, began = self._next_mark(), perf_counter_ns()
            try:
                async with self._pool.take() as connection:
                    answer = await self._work.send(connection, batch, mark)
            except Refusal as refusal:
                if refusal.sqlstate != _FENCED:
                    self._fail(batch, problem_of(self._store, refusal))
                    return
                if await self._renew(batch, mark):
                    continue
                return
            except EngineGone as gone:
                if not gone.was_sent:
                    self._fail(batch, problem_of(self._store, gone))
                    self._fail_waiting(gone)
                    return
                settled = await self._settle(batch, mark)
            except Warned:
                settled = await self._settle(batch, mark)
            else:
                settled = Settled(was_done=True, answer=answer)
            if settled is None:
                return
            if settled.was_done:
                self._commits.committed(perf_counter_ns() - began, len(batch))
                self._work.finish(batch, settled.answer, mark)
                return

    def _next_mark(self) -> Mark:
        return Mark(self._identity.id, self._identity.incarnation, next(self._batches))

    async def _renew(self, batch: list[Write[Any]], mark: Mark) -> bool:
        try:
            await self._identity.renew(mark.incarnation)
        except (EngineGone, Refusal, Warned) as error:
            # Whatever became of the new incarnation: the engine has refused the writes.
            self._fail(batch, StorageError(self._store, f"PostgreSQL: {error}; nothing was stored"))
            return False
        except StorageError as error:
            self._fail(batch, error)
            return False
        return True

    async def _settle(self, batch: list[Write[Any]], mark: Mark) -> Settled | None:
        """Find out what became of a call; ``None`` when that can't be known, and the writes were told so."""

        async def ask() -> Any | None:
            await self._identity.renew(mark.incarnation)
            async with self._pool.take() as connection:
                return await self._work.settle(connection, batch, mark, self._next_mark())

        try:
            return await settle(ask, self._patience_s, self._fail_waiting)
        except StorageError as error:
            reason = error.problem
        except (EngineGone, Refusal, Warned, TimeoutError) as error:
            reason = f"PostgreSQL did not say in time what became of it ({error})"
        self._work.lose(mark)
        self._commits.failed(len(batch))
        for write in batch:
            write.fail(StorageUncertain(self._store, write.operation, reason, ids=write.ids))
        return None

    def _fail_waiting(self, gone: EngineGone) -> None:
        """Fail what was not sent yet: each would have to wait as long."""
        waiting = [*self._waiting]
        self._failed += len(waiting)
        self._waiting.clear()
        self._waiting_bytes = 0
        self._fail(waiting, problem_of(self._store, gone))

    def _fail(self, batch: list[Write[Any]], error: StorageError) -> None:
        self._commits.failed(len(batch))
        for write in batch:
            write.fail(error)
