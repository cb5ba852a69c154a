"""The public queue: messages that wait until they are acknowledged."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple, Unpack

from waypost.checking.arguments import COUNT, COUNT_OR_ZERO, POSITIVE, TEXT, check
from waypost.checking.names import Name, as_name
from waypost.checking.rules import rule_of
from waypost.server.queues.consumer import Consumer, ConsumerInfo, consumer_info, pause_end, pause_until
from waypost.server.queues.deliveries import Deliveries
from waypost.server.queues.message import (
    DeadLetter,
    NewMessage,
    QueuedMessage,
    Receipt,
    dead_letter,
    queued_message,
    to_row,
)
from waypost.server.queues.options import QueueOptions, QueueSettings, encode_settings, limits_of
from waypost.server.queues.runner import Runner
from waypost.server.services import Services
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import DeadLetterFilter, Enqueued, NewMessageRow, QueueRow

__all__ = ["Queue", "QueueInfo", "queue_info"]

_PAGE = 100
_PAGE_BYTES = 1 << 20
_MESSAGES = rule_of(Sequence[NewMessage])
_MATCHING = rule_of(DeadLetterFilter | None)
_LIMITS = {"max_age_s", "max_messages", "max_bytes", "overflow"}


class QueueInfo(NamedTuple):
    """A queue's numbers; all zero for one that does not exist.

    Attributes:
        name: Its name.
        messages: How many messages it keeps.
        delayed: How many of its messages are not due yet; they are not among ``messages``.
        bytes: How many bytes all of them have.
        newest_offset: The place of its newest message ever, 0 for none.
        oldest_at: When the oldest message it keeps got its place; ``None`` if it keeps none.
        consumers: How many consumers it has.
        in_flight: How many messages are in somebody's hands, over all consumers.
        dead_letters: How many dead letters are kept.
        expired: How many messages outlived their time to live, ever.
        dropped: How many messages its limits ended, ever.
        paused_until: Until when all its consumers are paused; ``None`` if they are not.
        delivered_per_s: Deliveries a second, over all consumers and the last 10 to 20 seconds.
        acknowledged_per_s: Acks a second.
        redelivered_per_s: Failed deliveries a second.
    """

    name: str
    messages: int
    delayed: int
    bytes: int
    newest_offset: int
    oldest_at: datetime | None
    consumers: int
    in_flight: int
    dead_letters: int
    expired: int
    dropped: int
    paused_until: datetime | None
    delivered_per_s: float
    acknowledged_per_s: float
    redelivered_per_s: float


def queue_info(row: QueueRow, serving: Sequence[Runner]) -> QueueInfo:
    """Put together what the store knows of a queue and what is going on right now."""
    return QueueInfo(
        row.name,
        row.messages,
        row.delayed,
        row.bytes,
        row.top,
        None if row.oldest_at is None else datetime.fromtimestamp(row.oldest_at, UTC),
        row.consumers,
        sum(runner.in_flight for runner in serving) if serving else 0,
        row.dead,
        row.expired,
        row.dropped,
        pause_end(row.paused_until),
        sum(runner.meter.delivered.per_second for runner in serving) if serving else 0.0,
        sum(runner.meter.acknowledged.per_second for runner in serving) if serving else 0.0,
        sum(runner.meter.redelivered.per_second for runner in serving) if serving else 0.0,
    )


class Queue:
    """A durable, ordered log of messages for whoever is not there yet. Made by `waypost.Server.queue`.

    A handle without state of its own: make one whenever you need it. A queue begins with its first message.
    """

    __slots__ = ("_deliveries", "_name", "_services")

    def __init__(self, name: Name, services: Services, deliveries: Deliveries) -> None:
        self._name = as_name("queue", name)
        self._services = services
        self._deliveries = deliveries

    def __repr__(self) -> str:
        return f"<Queue {self._name}>"

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    # -- in -------------------------------------------------------------------------------------------------

    async def emit(
        self,
        event: str,
        *args: Any,
        id: Name | None = None,
        key: Name | None = None,
        ttl_s: float | None = None,
        delay_s: float | None = None,
    ) -> Receipt:
        """Put a message into the queue.

        Args:
            event: The event that its consumers get; none of Socket.IO's reserved names.
            args: The event's arguments: whatever JSON can carry, and ``bytes`` anywhere in it.
            id: The message's id. The same id is accepted once within the queue's ``deduplication_s``: a repeat
                changes nothing. ``None`` makes a new one.
            key: What it is ordered by for consumers with ``order="key"``, such as the id of what it is about.
            ttl_s: For how many seconds it is worth delivering; after that nobody gets it.
            delay_s: In how many seconds it is due. Until then nobody gets it, and it blocks nothing.

        Returns:
            Its id and place, and whether it was a duplicate, once it is on disk (as far as the store is durable).

        Raises:
            QueueFull: The queue's limits leave no room for it, and it refuses.
            EncodingFailed: An argument can't be encoded.
            ConfigurationError: ``id``, ``key``, ``ttl_s`` or ``delay_s`` can't be what it is.
            StorageError: The store did not take it; it is not in the queue.

        Delivery: at least once to every consumer of the queue, in the order that the consumer has, until each has
        acknowledged it or gives it up. If this is cancelled, the message may be in the queue all the same; repeat it
        with the same ``id``.
        """
        message = NewMessage(event, *args, id=id, key=key, ttl_s=ttl_s, delay_s=delay_s)
        enqueued = await self._enqueue([self._to_store(message)], can_repeat=id is not None)
        return Receipt._make(enqueued.accepted[0])

    async def emit_many(self, messages: Sequence[NewMessage]) -> list[Receipt]:
        """Put messages into the queue, in one commit: all of them or none.

        Args:
            messages: The messages, in order.

        Returns:
            One receipt for each.

        Raises:
            QueueFull: They do not fit into the queue's limits, and it refuses.
            EncodingFailed: An argument can't be encoded.
            ConfigurationError: They are no list of `NewMessage`.
            StorageError: The store did not take them; none is in the queue.

        Delivery: as for `emit`.
        """
        check("messages", messages, _MESSAGES)
        if not messages:
            return []
        stored = [self._to_store(one) for one in messages]
        enqueued = await self._enqueue(stored, can_repeat=any(one.id is not None for one in messages))
        return [*map(Receipt._make, enqueued.accepted)]

    def publish(
        self,
        connection: sqlite3.Connection,
        event: str,
        *args: Any,
        id: Name | None = None,
        key: Name | None = None,
        ttl_s: float | None = None,
        delay_s: float | None = None,
    ) -> str:
        """Put a message into the queue with a transaction of the application's own, in the same SQLite file.

        It is in the queue if that transaction is committed, and never was if it is rolled back. Not a coroutine, and
        may be called in any thread, as the connection may be. `waypost.publish` does the same without a server.

        Args:
            connection: The application's connection to the store's file, from the module ``sqlite3``. Commit soon: as
                long as its transaction has written something, nobody else can write to the store. One that commits
                each statement by itself commits this one.
            event: As for `emit`.
            args: As for `emit`.
            id: As for `emit`; nobody is told of a duplicate.
            key: As for `emit`.
            ttl_s: As for `emit`.
            delay_s: As for `emit`; counts from this call.

        Returns:
            The message's id.

        Raises:
            QueueFull: The queue's limits leave no room for it, and it refuses.
            EncodingFailed: An argument can't be encoded.
            ConfigurationError: It is no such connection, or ``id``, ``key``, ``ttl_s`` or ``delay_s`` can't be what
                it is.
            StorageError: It is a connection to another file, the store is in memory, or somebody else writes to it
                for longer than the connection waits.

        Delivery: as for `emit`, within about 50 ms after the commit; in the order of the commits, and within one in
        the order of the calls. If no server runs, as soon as one does.
        """
        message = NewMessage(event, *args, id=id, key=key, ttl_s=ttl_s, delay_s=delay_s)
        stored = self._to_store(message)
        self._stored.publish(connection, stored, deduplicate_s=0 if id is None else self.options.deduplication_s)
        return stored.id

    # -- looking --------------------------------------------------------------------------------------------

    async def info(self) -> QueueInfo:
        """Return the queue's numbers; cheap enough to be asked for every second.

        For many queues at once `waypost.Server.queue_infos` is cheaper by far.

        Raises:
            StorageError: The store did not answer.
        """
        return queue_info(await self._stored.info(), self._deliveries.serving(self._name))

    def consumer(self, name: Name = "default") -> Consumer:
        """Return a handle on a consumer, whether it exists or not."""
        return Consumer(self._name, name, self._services, self._deliveries)

    async def consumers(self, *, after: str = "", limit: int = _PAGE) -> list[ConsumerInfo]:
        """Return the numbers of consumers, by name.

        Args:
            after: The name before the first one wanted; to go on, that of the last one returned.
            limit: The most to return.

        Raises:
            StorageError: The store did not answer.
        """
        check("after", after, TEXT)
        check("limit", limit, COUNT)
        return [
            consumer_info(self._name, one, self._deliveries.runner(self._name, one.name))
            for one in await self._stored.consumers(after=after, max_consumers=limit)
        ]

    async def peek(self, *, after: int = 0, limit: int = 10) -> list[QueuedMessage]:
        """Look at messages where they wait, acknowledged by some or not.

        Args:
            after: The offset before the first one wanted; to go on, that of the last one returned.
            limit: The most to return.

        Raises:
            StorageError: The store did not answer.
        """
        check("after", after, COUNT_OR_ZERO)
        check("limit", limit, COUNT)
        found = await self._stored.peek(after=after, max_messages=limit, max_bytes=_PAGE_BYTES)
        return [queued_message(one) for one in found]

    # -- its limits -----------------------------------------------------------------------------------------

    @property
    def options(self) -> QueueOptions:
        """Its options: the server's, and what was configured for it alone."""
        return self._deliveries.configured.of(self._name)

    async def configure(self, **changes: Unpack[QueueSettings]) -> QueueOptions:
        """Change options for this queue alone, over the server's ``queues``; kept over restarts.

        Args:
            changes: Options of `QueueOptions`, by name.

        Returns:
            Its options from now on. A consumer that is being served keeps its order until nothing is attached to it.

        Raises:
            ConfigurationError: There is no option of that name, or one can't be what it is.
            StorageError: The store did not take it.
        """
        configured = self._deliveries.configured
        settings, options = configured.with_changes(self._name, changes)
        limits = limits_of(options) if _LIMITS & settings.keys() else None
        await self._stored.configure(limits, encode_settings(settings))
        configured.keep(self._name, settings)
        self._deliveries.reconfigured(self._name)
        return options

    async def pause(self, *, until: datetime | None = None) -> None:
        """Hand out nothing to any consumer until it is resumed; kept over restarts. Emitting goes on.

        Args:
            until: When it resumes by itself, with a time zone; ``None`` for not.

        Raises:
            ConfigurationError: ``until`` is no datetime, or has no time zone.
            StorageError: The store did not take it.
        """
        end = pause_until(until)
        await self._stored.pause(None, until=end)
        self._deliveries.changed(self._name)

    async def resume(self) -> None:
        """Go on after a pause.

        Raises:
            StorageError: The store did not take it.
        """
        await self._stored.pause(None, until=self._services.environment.wall_time())
        self._deliveries.changed(self._name)

    async def purge(self, *, upto: int | None = None) -> int:
        """Remove messages, acknowledged or not. Consumers and dead letters stay; what is in flight counts no more.

        Args:
            upto: The last offset to remove; ``None`` for all there are, those that are not due yet too.

        Returns:
            How many messages went.

        Raises:
            StorageError: The store did not take it.
        """
        if upto is not None:
            check("upto", upto, COUNT_OR_ZERO)
        removed = await self._stored.purge(upto=upto)
        self._deliveries.begin_anew(self._name)
        return removed

    async def delete(self) -> None:
        """Remove the queue with all it has: messages, consumers, dead letters, options. Who is attached is let go.

        It is gone with one commit. What it kept is removed from the file in steps, before this returns; or, if the
        process is killed meanwhile, when a server has the store open again.

        Raises:
            StorageError: The store did not take it.
        """
        self._deliveries.removed(self._name)
        await self._stored.delete()
        # Once more: somebody may have come while it was being deleted.
        self._deliveries.removed(self._name)
        self._deliveries.configured.keep(self._name, {})

    # -- dead letters ---------------------------------------------------------------------------------------

    async def dead_letters(
        self, matching: DeadLetterFilter | None = None, *, after: int = 0, limit: int = _PAGE
    ) -> list[DeadLetter]:
        """Return dead letters, the oldest first.

        Args:
            matching: Which; ``None`` for all.
            after: The number before the first one wanted; to go on, that of the last one returned.
            limit: The most to return.

        Raises:
            StorageError: The store did not answer.
        """
        check("matching", matching, _MATCHING)
        check("after", after, COUNT_OR_ZERO)
        check("limit", limit, COUNT)
        found = await self._stored.dead_letters(
            matching or DeadLetterFilter(), after=after, max_letters=limit, max_bytes=_PAGE_BYTES
        )
        return [dead_letter(one) for one in found]

    async def redrive(self, matching: DeadLetterFilter | None = None, *, rate_per_s: float | None = None) -> int:
        """Deliver dead letters again, each to the consumer that gave it up, behind all that waits, as if new.

        Those that there are when it begins, each once: what dies again meanwhile stays a dead letter.

        Args:
            matching: Which; ``None`` for all there are.
            rate_per_s: How many a second become due; ``None`` for all at once. They are on disk as messages with a
                delay when this returns, so that a restart changes nothing.

        Returns:
            How many there were.

        Raises:
            ConfigurationError: The rate is no number above 0.
            StorageError: The store did not take it; those before may be messages again. Repeat it for the rest.
        """
        total = 0
        check("matching", matching, _MATCHING)
        async for count in self._redrive(matching or DeadLetterFilter(), rate_per_s):
            total += count
        return total

    async def _redrive(self, matching: DeadLetterFilter, rate_per_s: float | None) -> AsyncIterator[int]:
        if rate_per_s is not None:
            check("rate_per_s", rate_per_s, POSITIVE)
        spacing_s = 0.0 if rate_per_s is None else 1.0 / rate_per_s
        first_at = self._services.environment.wall_time()
        last = 0
        newest: int | None = None
        while True:
            redriven = await self._stored.redrive(
                matching, after=last, upto=newest, max_letters=_PAGE, spacing_s=spacing_s, first_at=first_at
            )
            if not redriven.letters:
                return
            last = redriven.last
            newest = redriven.newest if newest is None else newest
            first_at += redriven.letters * spacing_s
            if redriven.next_due_at is not None:
                self._deliveries.due.arm(redriven.next_due_at)
            self._deliveries.changed(self._name)
            yield redriven.letters
            await asyncio.sleep(0)

    async def discard_dead_letters(self, matching: DeadLetterFilter | None = None) -> int:
        """Forget dead letters.

        Args:
            matching: Which; ``None`` for all.

        Returns:
            How many there were.

        Raises:
            StorageError: The store did not take it; some may be gone.
        """
        check("matching", matching, _MATCHING)
        total = 0
        while count := await self._stored.discard_dead(matching or DeadLetterFilter(), max_letters=_PAGE):
            total += count
        return total

    def _enqueue(self, messages: Sequence[NewMessageRow], *, can_repeat: bool) -> Awaitable[Enqueued]:
        # Not a coroutine: there are many of these, and one more layer would be felt.
        deliveries = self._deliveries
        return self._stored.enqueue(
            messages,
            # Ids that were made just now can't have been accepted before.
            deduplicate_s=self.options.deduplication_s if can_repeat else 0,
            on_commit=partial(deliveries.arrived, self._name, messages),
        )

    def _to_store(self, message: NewMessage) -> NewMessageRow:
        return to_row(message, self._services.codec, self._deliveries.message_ids)

    @property
    def _stored(self) -> StoredQueue:
        return self._services.store.queue(self._name)
