"""A handle on one queue of a `SqliteStore`."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from waypost.errors import StorageError
from waypost.storage.clock import StoreClock
from waypost.storage.queue_base import HOW_TO_BEGIN
from waypost.storage.queue_records import (
    Attempt,
    Configuration,
    ConsumerRow,
    DeadLetterFilter,
    DeadLetterRow,
    Enqueued,
    MessageRow,
    NewMessageRow,
    Place,
    QueueLimits,
    QueueRow,
    Redriven,
    Retries,
)
from waypost.storage.sqlite import outbox
from waypost.storage.sqlite.jobs import Gathered, Transaction
from waypost.storage.sqlite.queues import consumers, dead_letters, marks, moves, queues
from waypost.storage.sqlite.queues import fetch as reading
from waypost.storage.sqlite.queues import settle as settling
from waypost.storage.sqlite.queues.consumers import ConsumerState
from waypost.storage.sqlite.queues.enqueue import Enqueuing, Request
from waypost.storage.sqlite.queues.holds import Holds
from waypost.storage.sqlite.reader import Reader
from waypost.storage.sqlite.steps import repeat
from waypost.storage.sqlite.writer import LARGEST_RECORD_BYTES, Writer

__all__ = ["QueueFile", "SqliteQueue"]

_T = TypeVar("_T")
# How often messages are counted in steps, before they are counted and ended in one transaction.
_TRIES = 5


@dataclass(frozen=True, slots=True)
class QueueFile:
    """The parts that all queues of one opening share.

    Attributes:
        store: The store, as errors name it.
        limits: The limits of queues without their own.
        clock: The clock that durations are measured on.
        writer: Writes to the file.
        reader: Reads from the file.
        holds: The notes of held messages.
        sweep: Called when there are rows to be removed in steps.
        is_visit: Whether another process owns the file, and must be notified of changes.
        held_back: The queues of which messages are being counted, whose acks wait for the end of it.
    """

    store: str
    limits: QueueLimits
    clock: StoreClock
    writer: Writer
    reader: Reader
    holds: Holds
    sweep: Callable[[], None]
    is_visit: bool = False
    held_back: dict[str, asyncio.Event] = field(default_factory=dict)

    def enqueue(self, tx: Transaction, jobs: list[Gathered[Request, Enqueued]]) -> None:
        """Add the messages of many requests together."""
        Enqueuing(tx, self.store, self.limits).run(jobs)
        for job in jobs if self.is_visit else ():
            self._note_change(tx, job.request.queue)

    def submit(self, queue: str, work: Callable[[Transaction], _T]) -> asyncio.Future[_T]:
        """Run a job that changes a queue."""
        if not self.is_visit:
            return self.writer.submit(work)

        def change(tx: Transaction) -> _T:
            result = work(tx)
            self._note_change(tx, queue)
            return result

        return self.writer.submit(change)

    @asynccontextmanager
    async def holding_back(self, queue: str) -> AsyncIterator[None]:
        """Let the acks and failures of a queue wait; one after the other, if several ask for it."""
        await self.wait_for(queue)
        over = self.held_back[queue] = asyncio.Event()
        try:
            yield
        finally:
            del self.held_back[queue]
            over.set()
            self.sweep()

    async def wait_for(self, queue: str) -> None:
        """Wait while acks and failures of a queue are held back."""
        while (over := self.held_back.get(queue)) is not None:
            await over.wait()

    def _note_change(self, tx: Transaction, queue: str) -> None:
        tx.connection.execute("INSERT OR IGNORE INTO changed (queue) VALUES (?)", (queue,))


class SqliteQueue:
    """A handle on one queue of a `SqliteStore`; see `waypost.storage.queue_base.Queue`."""

    __slots__ = ("_file", "name")

    def __init__(self, name: str, file: QueueFile) -> None:
        self.name = name
        self._file = file

    # -- messages --------------------------------------------------------------------------------------------

    def enqueue(
        self, messages: Sequence[NewMessageRow], *, deduplicate_s: float, on_commit: Callable[[Enqueued], None]
    ) -> asyncio.Future[Enqueued]:
        """Add messages, all or none."""
        # No coroutine: there are many of these, and each layer is felt.
        file, size = self._file, 0
        for message in messages:
            size += len(message.record) if message.headers is None else message.size
        if size > LARGEST_RECORD_BYTES:
            for message in messages:
                file.writer.check_size(len(message.record))
        request = Request(self.name, messages, deduplicate_s, size)
        return file.writer.gather(file.enqueue, request, size, on_commit)

    def publish(self, connection: Any, message: NewMessageRow, *, deduplicate_s: float) -> None:
        """Put a message into the queue with a transaction of the application."""
        self._file.writer.check()
        self._file.writer.check_size(len(message.record))
        if (file := outbox.file_of(connection)) != self._file.store:
            problem = f"the connection is to {file or 'a database in memory'}; connect to this store's own file"
            raise StorageError(self._file.store, problem)
        limits, now = self._file.limits, self._file.clock.now()
        outbox.publish(connection, self.name, message, deduplicate_s=deduplicate_s, limits=limits, now=now)

    async def peek(self, *, after: int, max_messages: int, max_bytes: int) -> list[MessageRow]:
        """Read messages as the queue keeps them."""
        return await self._read(
            lambda connection: reading.peek(connection, self.name, after, max_messages, max_bytes)
        )

    async def purge(self, *, upto: int | None = None) -> int:
        """Remove messages, settled or not; with one commit, and their rows in steps."""
        if upto is not None:
            async with self._file.holding_back(self.name):
                return await self._end(partial(marks.begin_count, name=self.name, upto=upto), "purged")
        purged = await self._file.submit(self.name, lambda tx: marks.end_all(tx, self.name))
        self._file.sweep()
        return purged

    async def cancel(self, message_id: str) -> int:
        """Remove the messages with an id that are not due yet."""
        return await self._file.submit(self.name, lambda tx: queues.cancel(tx, self.name, message_id))

    async def configure(self, limits: QueueLimits | None, settings: bytes) -> None:
        """Keep limits and settings, and drop with the same commit what does not fit into the limits any more."""

        def configure(tx: Transaction) -> None:
            queues.configure(tx, self.name, limits, settings)

        held = limits or self._file.limits
        # Messages that are kept for a while go first, wherever they are: as later messages need the room.
        if held.overflow == "drop_oldest" and not held.keep_settled_s:
            async with self._file.holding_back(self.name):
                await self._end(partial(marks.begin_count, name=self.name, limits=held), "lost", configure)
        else:
            await self._file.submit(self.name, configure)

    async def configuration(self) -> Configuration:
        """Return what was configured."""
        return await self._read(lambda connection: queues.configuration(connection, self.name))

    async def delete(self) -> None:
        """Remove the queue: it is gone with one commit, and what it kept is removed in steps."""
        while not await self._file.submit(self.name, lambda tx: queues.delete(tx, self.name)):
            pass
        await repeat(self._file.writer, queues.remove_rest)

    async def info(self) -> QueueRow:
        """Return the queue's state."""
        return await self._read(lambda connection: queues.info(connection, self.name))

    # -- consumers -------------------------------------------------------------------------------------------

    async def add_consumer(self, consumer: str, *, start: Place = "oldest") -> ConsumerRow:
        """Return a consumer, made if need be."""
        return await self._file.submit(self.name, lambda tx: moves.add(tx, self.name, consumer, start))

    async def consumer(self, consumer: str) -> ConsumerRow:
        """Return a consumer's state."""
        return await self._read(
            lambda connection: consumers.consumer_info(connection, self._found(connection, consumer))
        )

    async def consumers(self, *, after: str = "", max_consumers: int = 1000) -> list[ConsumerRow]:
        """Return the states of consumers by name."""
        return await self._read(lambda connection: consumers.page(connection, self.name, after, max_consumers))

    async def seek(self, consumer: str, place: Place) -> ConsumerRow:
        """Move a consumer to a place."""
        async with self._file.holding_back(self.name):
            if await self._write(consumer, lambda tx, found: moves.seek(tx, found, place)):
                await self._end(self._count_unwanted(), "unwanted")
        return await self.consumer(consumer)

    async def pause(self, consumer: str | None, *, until: float) -> None:
        """Note that a consumer or the queue is paused."""
        paused_until = until if until > self._file.clock.wall() else None
        if consumer is None:
            await self._file.submit(self.name, lambda tx: moves.pause(tx, self.name, None, paused_until))
        else:
            await self._write(consumer, lambda tx, found: moves.pause(tx, self.name, found, paused_until))

    async def remove_consumer(self, consumer: str) -> None:
        """Forget a consumer."""
        async with self._file.holding_back(self.name):
            if await self._file.submit(self.name, partial(_remove_consumer, queue=self.name, name=consumer)):
                await self._end(self._count_unwanted(), "unwanted")

    async def forget_loss(self, consumer: str, upto: int) -> ConsumerRow:
        """Forget what a consumer lost, as it was told."""
        return await self._write(consumer, lambda tx, found: moves.forget_loss(tx, found, upto))

    # -- reading ---------------------------------------------------------------------------------------------

    async def fetch(self, consumer: str, *, after: int, max_messages: int, max_bytes: int) -> list[MessageRow]:
        """Read a consumer's unsettled messages after a position."""
        now = self._file.clock.now()
        return await self._read(
            lambda connection: reading.fetch(
                connection, self._found(connection, consumer), after, max_messages, max_bytes, now
            )
        )

    async def fetch_key(
        self, consumer: str, key: str, *, after: int, upto: int, max_messages: int, max_bytes: int
    ) -> list[MessageRow]:
        """Read a consumer's unsettled messages with a key."""
        now = self._file.clock.now()
        return await self._read(
            lambda connection: reading.fetch_key(
                connection, self._found(connection, consumer), key, after, upto, max_messages, max_bytes, now
            )
        )

    async def fetch_retries(
        self, consumer: str, *, upto: int, held: Collection[int], max_messages: int, max_bytes: int
    ) -> Retries:
        """Read messages that are due again."""
        now, unwanted = self._file.clock.now(), frozenset(held)
        return await self._read(
            lambda connection: reading.fetch_retries(
                connection, self._found(connection, consumer), upto, unwanted, max_messages, max_bytes, now
            )
        )

    # -- what became of them ---------------------------------------------------------------------------------

    async def settle(self, consumer: str, epoch: int, positions: Collection[int]) -> ConsumerRow:
        """Mark messages as done for a consumer."""
        done = sorted({*positions})
        return await self._change(
            consumer, epoch, lambda tx, found: settling.settle(tx.connection, found, done, tx.now)
        )

    async def retry(self, consumer: str, epoch: int, attempts: Sequence[Attempt]) -> ConsumerRow:
        """Keep how attempts ended."""
        return await self._change(consumer, epoch, lambda tx, found: settling.retry(tx.connection, found, attempts))

    async def bury(self, consumer: str, epoch: int, attempts: Sequence[Attempt]) -> ConsumerRow:
        """Settle messages and keep them as dead letters."""
        return await self._change(consumer, epoch, lambda tx, found: settling.bury(tx.connection, found, attempts))

    def hold(self, consumer: str, holder: str, position: int | None) -> None:
        """Note the oldest message that a holder has in hand."""
        self._file.holds.note(self.name, consumer, holder, position)

    # -- dead letters ----------------------------------------------------------------------------------------

    async def dead_letters(
        self, matching: DeadLetterFilter, *, after: int, max_letters: int, max_bytes: int
    ) -> list[DeadLetterRow]:
        """Read dead letters."""
        return await self._read(
            lambda connection: dead_letters.read(connection, self.name, matching, after, max_letters, max_bytes)
        )

    async def redrive(
        self,
        matching: DeadLetterFilter,
        *,
        after: int,
        upto: int | None = None,
        max_letters: int,
        spacing_s: float,
        first_at: float,
    ) -> Redriven:
        """Make dead letters messages again."""
        return await self._file.submit(
            self.name,
            lambda tx: dead_letters.redrive(tx, self.name, matching, after, upto, max_letters, spacing_s, first_at),
        )

    async def discard_dead(self, matching: DeadLetterFilter, *, max_letters: int) -> int:
        """Forget dead letters."""
        return await self._file.submit(
            self.name, lambda tx: dead_letters.discard(tx, self.name, matching, max_letters)
        )

    # -- how -------------------------------------------------------------------------------------------------

    async def _read(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        self._file.writer.check()
        return await self._file.reader.run(query)

    async def _write(self, consumer: str, work: Callable[[Transaction, ConsumerState], _T]) -> _T:
        return await self._file.submit(self.name, lambda tx: work(tx, self._found(tx.connection, consumer)))

    def _count_unwanted(self) -> Callable[[sqlite3.Connection], marks.Count | None]:
        return partial(marks.count_unwanted, name=self.name, keep_settled_s=self._file.limits.keep_settled_s)

    async def _end(
        self,
        begin: Callable[[sqlite3.Connection], marks.Count | None],
        how: marks.How,
        also: Callable[[Transaction], None] | None = None,
    ) -> int:
        """End messages with one commit, after they were counted in steps.

        Args:
            begin: Begins to count those that are to end.
            how: What they end as.
            also: What belongs to the same commit.

        Returns:
            How many they were.
        """

        def end(tx: Transaction, count: marks.Count | None) -> bool:
            if count is not None and not marks.end_counted(tx, count, how):
                return False
            if also is not None:
                also(tx)
            return True

        def end_in_one(tx: Transaction) -> int:
            count = begin(tx.connection)
            if count is not None:
                marks.count_in_one(tx.connection, count)
            end(tx, count)
            return 0 if count is None else count.messages

        for _ in range(_TRIES):
            count = await self._read(begin)
            while count is not None and not (count.is_done or count.has_enough()):
                await self._read(partial(marks.count_on, count=count))
            if count is None and also is None:
                return 0
            if await self._file.submit(self.name, partial(end, count=count)):
                return 0 if count is None else count.messages
        # Others, such as the command line, change the queue all the time.
        return await self._file.submit(self.name, end_in_one)

    async def _change(
        self, consumer: str, epoch: int, work: Callable[[Transaction, ConsumerState], None]
    ) -> ConsumerRow:
        def change(tx: Transaction, found: ConsumerState) -> ConsumerRow:
            if found.epoch == epoch:
                work(tx, found)
            return consumers.consumer_info(tx.connection, found)

        await self._file.wait_for(self.name)
        return await self._write(consumer, change)

    def _found(self, connection: sqlite3.Connection, consumer: str) -> ConsumerState:
        found = consumers.find(connection, self.name, consumer)
        if found is None:
            raise StorageError(self._file.store, f"queue {self.name} has no consumer {consumer}; {HOW_TO_BEGIN}")
        return found


def _remove_consumer(tx: Transaction, queue: str, name: str) -> bool:
    """Remove a consumer; returns whether what nobody wants now may end with one mark."""
    found = consumers.find(tx.connection, queue, name)
    return found is not None and moves.remove(tx, found)
