"""A handle on one queue of a `RemoteStore`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec

from waypost.errors import StorageError
from waypost.storage.clock import StoreClock
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
from waypost.storage.remote.connection import Call, Connection
from waypost.storage.sqlite import outbox
from waypost.storage.wire import requests
from waypost.storage.wire.calls import QUEUE
from waypost.storage.wire.durations import attempts_from

__all__ = ["RemoteQueue", "SharedFile"]

_ENQUEUED = msgspec.msgpack.Decoder(Enqueued)


class SharedFile(msgspec.Struct, frozen=True):
    """The store's file, as `RemoteQueue.publish` needs it.

    Attributes:
        path: Its path; ``None`` for a store in memory.
        limits: The limits of queues without their own.
        clock: The store's clock.
    """

    path: str | None
    limits: QueueLimits
    clock: StoreClock


class RemoteQueue:
    """A handle on one queue of a `RemoteStore`; see `waypost.storage.queue_base.StoredQueue`.

    Args:
        name: The queue's name.
        connection: The way to the host.
        file: The store's file.
    """

    __slots__ = ("_connection", "_file", "name")

    def __init__(self, name: str, connection: Connection, file: SharedFile) -> None:
        self.name = name
        self._connection = connection
        self._file = file

    # -- messages --------------------------------------------------------------------------------------------

    def enqueue(
        self, messages: Sequence[NewMessageRow], *, deduplicate_s: float, on_commit: Callable[[Enqueued], None]
    ) -> asyncio.Future[Enqueued]:
        """Add messages, all or none."""
        call = self._connection.next_call()
        request = requests.Enqueue(call, self.name, [*messages], deduplicate_s)
        ids = tuple(one.id for one in messages)
        what = f"add {len(ids)} messages to queue {self.name}"
        pending = Call(self._connection.new_future(), _ENQUEUED.decode, what, on_commit, ids)
        return self._connection.ask(call, request, pending)

    def publish(self, connection: Any, message: NewMessageRow, *, deduplicate_s: float) -> None:
        """Put a message into the queue with a transaction of the application, in this process."""
        self._connection.check()
        path = self._file.path
        if path is None:
            problem = (
                "nothing can be published in a transaction; keep the store in a file, with the application's data"
            )
            raise StorageError(self._connection.store, problem)
        if (file := outbox.file_of(connection)) != path:
            problem = f"the connection is to {file or 'a database in memory'}; connect to this store's own file"
            raise StorageError(path, problem)
        limits, now = self._file.limits, self._file.clock.now()
        outbox.publish(connection, self.name, message, deduplicate_s=deduplicate_s, limits=limits, now=now)

    async def peek(self, *, after: int, max_messages: int, max_bytes: int) -> list[MessageRow]:
        """Read messages as the queue keeps them."""
        found: list[MessageRow] = await self._read("peek", after, max_messages, max_bytes)
        return found

    async def purge(self, *, upto: int | None = None) -> int:
        """Remove messages, settled or not."""
        purged: int = await self._change("purge", upto)
        return purged

    async def cancel(self, message_id: str) -> int:
        """Remove the messages with an id that are not due yet."""
        cancelled: int = await self._change("cancel", message_id)
        return cancelled

    async def configure(self, limits: QueueLimits | None, settings: bytes) -> None:
        """Set the queue's limits and further settings."""
        await self._change("configure", limits, settings)

    async def configuration(self) -> Configuration:
        """Return the queue's configuration."""
        found: Configuration = await self._read("configuration")
        return found

    async def delete(self) -> None:
        """Remove the queue with all it has."""
        await self._change("delete")

    async def info(self) -> QueueRow:
        """Return the queue's state."""
        found: QueueRow = await self._read("info")
        return found

    # -- consumers -------------------------------------------------------------------------------------------

    async def add_consumer(self, consumer: str, *, start: Place = "oldest") -> ConsumerRow:
        """Return a consumer; if it does not exist, make it."""
        found: ConsumerRow = await self._change("add_consumer", consumer, start)
        return found

    async def consumer(self, consumer: str) -> ConsumerRow:
        """Return a consumer's state."""
        found: ConsumerRow = await self._read("consumer", consumer)
        return found

    async def consumers(self, *, after: str = "", max_consumers: int = 1000) -> list[ConsumerRow]:
        """Return the states of consumers by name."""
        found: list[ConsumerRow] = await self._read("consumers", after, max_consumers)
        return found

    async def seek(self, consumer: str, place: Place) -> ConsumerRow:
        """Move a consumer to a place."""
        moved: ConsumerRow = await self._change("seek", consumer, place)
        return moved

    async def pause(self, consumer: str | None, *, until: float) -> None:
        """Set the pause of a consumer, or of the whole queue."""
        await self._change("pause", consumer, until)

    async def remove_consumer(self, consumer: str) -> None:
        """Forget a consumer and its dead letters."""
        await self._change("remove_consumer", consumer)

    async def forget_loss(self, consumer: str, upto: int) -> ConsumerRow:
        """Forget a consumer's losses up to a position."""
        found: ConsumerRow = await self._change("forget_loss", consumer, upto)
        return found

    # -- reading ---------------------------------------------------------------------------------------------

    async def fetch(self, consumer: str, *, after: int, max_messages: int, max_bytes: int) -> list[MessageRow]:
        """Read a consumer's unsettled messages after a position."""
        found: list[MessageRow] = await self._read("fetch", consumer, after, max_messages, max_bytes)
        return found

    async def fetch_key(
        self, consumer: str, key: str, *, after: int, upto: int, max_messages: int, max_bytes: int
    ) -> list[MessageRow]:
        """Read a consumer's unsettled messages with a key."""
        found: list[MessageRow] = await self._read("fetch_key", consumer, key, after, upto, max_messages, max_bytes)
        return found

    async def fetch_retries(
        self, consumer: str, *, upto: int, held: Collection[int], max_messages: int, max_bytes: int
    ) -> Retries:
        """Read messages that are due again."""
        found: Retries = await self._read("fetch_retries", consumer, upto, held, max_messages, max_bytes)
        return found

    # -- what became of them ---------------------------------------------------------------------------------

    async def settle(self, consumer: str, epoch: int, positions: Collection[int]) -> ConsumerRow:
        """Settle messages for a consumer."""
        state: ConsumerRow = await self._change("settle", consumer, epoch, positions)
        return state

    async def retry(self, consumer: str, epoch: int, attempts: Sequence[Attempt]) -> ConsumerRow:
        """Store failed attempts."""
        state: ConsumerRow = await self._change("retry", consumer, epoch, self._from_now(attempts))
        return state

    async def bury(self, consumer: str, epoch: int, attempts: Sequence[Attempt]) -> ConsumerRow:
        """Settle messages and keep them as dead letters."""
        state: ConsumerRow = await self._change("bury", consumer, epoch, self._from_now(attempts))
        return state

    def hold(self, consumer: str, holder: str, position: int | None) -> None:
        """Note the oldest message of a holder."""
        self._connection.send(requests.Hold(self.name, consumer, holder, position))

    # -- dead letters ----------------------------------------------------------------------------------------

    async def dead_letters(
        self, matching: DeadLetterFilter, *, after: int, max_letters: int, max_bytes: int
    ) -> list[DeadLetterRow]:
        """Read dead letters after a number."""
        found: list[DeadLetterRow] = await self._read("dead_letters", matching, after, max_letters, max_bytes)
        return found

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
        """Turn dead letters into messages at the end of the queue."""
        first_in_s = first_at - self._file.clock.now()
        redriven: Redriven = await self._change("redrive", matching, after, upto, max_letters, spacing_s, first_in_s)
        return redriven

    async def discard_dead(self, matching: DeadLetterFilter, *, max_letters: int) -> int:
        """Delete dead letters."""
        discarded: int = await self._change("discard_dead", matching, max_letters)
        return discarded

    # -- how -------------------------------------------------------------------------------------------------

    def _from_now(self, attempts: Sequence[Attempt]) -> list[Attempt]:
        return attempts_from(attempts, self._file.clock.now())

    def _read(self, method: str, *arguments: Any) -> Any:
        return self._connection.plain(QUEUE[method], self.name, *arguments, changes=False)

    def _change(self, method: str, *arguments: Any) -> Any:
        return self._connection.plain(QUEUE[method], self.name, *arguments, changes=True)
