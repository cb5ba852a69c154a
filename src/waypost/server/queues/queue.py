"""The public `Queue`: a handle on a durable log of messages, with which the server's code emits and looks."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Unpack

from waypost.checking.arguments import COUNT, COUNT_OR_ZERO, POSITIVE, TEXT, check
from waypost.checking.names import Name, as_name
from waypost.checking.rules import rule_of
from waypost.server.calling.from_thread import blocking
from waypost.server.queues.consumer import Consumer, ConsumerInfo, consumer_info, pause_until
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
from waypost.server.queues.queue_info import QueueInfo, queue_info
from waypost.server.services import Services
from waypost.storage.clock import StoreClock
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import DeadLetterFilter, Enqueued, NewMessageRow
from waypost.storage.wall_times import (
    consumer_on_wall,
    filter_from_wall,
    letter_on_wall,
    message_on_wall,
    queue_on_wall,
)

__all__ = ["Queue", "QueueFromThread"]

_PAGE = 100
_PAGE_BYTES = 1 << 20
_MESSAGES = rule_of(Sequence[NewMessage])
_MATCHING = rule_of(DeadLetterFilter | None)
_LIMITS = {"max_age_s", "max_messages", "max_bytes", "overflow", "keep_settled_s"}


class Queue:
    """A durable, ordered log of messages, for consumers that may not be there yet. Made by `waypost.Server.queue`.

    The object is a handle without state: make one whenever you need it. The queue itself begins with its first
    message.
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
        """The queue's name."""
        return self._name

    @property
    def from_thread(self) -> QueueFromThread:
        """The same methods for threads, which wait for the result: ``queue.from_thread.emit("mail", 1)``."""
        return QueueFromThread(self)

    # -- in -------------------------------------------------------------------------------------------------

    async def emit(
        self,
        event: str,
        *args: Any,
        id: Name | None = None,
        key: Name | None = None,
        ttl_s: float | None = None,
        delay_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Receipt:
        """Put a message into the queue.

        Args:
            event: The name of the event that consumers receive; Socket.IO's reserved names are refused.
            args: The event's arguments: JSON values, and ``bytes`` anywhere in them.
            id: The message's id. The queue accepts an id once within its ``deduplication_s``; a repeat changes
                nothing. ``None`` makes a new id.
            key: The ordering key for consumers with ``order="key"``, such as the id of the order it is about.
            ttl_s: The time to live, in seconds above 0, after which the message is not delivered; ``None`` for ever.
            delay_s: Seconds until the message is due, from 0. Until then it is not delivered, and blocks nothing.
            headers: What receivers get beside the arguments, text to text: a trace context, a tenant. At most 16 KiB.
                Official clients don't see them.

        Returns:
            The message's id and offset, and whether it was a duplicate. The message is on disk then, if the store is
            durable.

        Raises:
            QueueFull: The message does not fit into the queue's limits, and the queue refuses what does not fit.
            EncodingFailed: An argument can't be encoded.
            ConfigurationError: ``id``, ``key``, ``ttl_s``, ``delay_s`` or ``headers`` has an impossible value.
            StorageError: The store could not write the message; it is not in the queue.

        Delivery: at least once to every consumer of the queue, in the consumer's order, until the consumer has
        acknowledged the message or given it up. After a cancellation the message may be in the queue all the same;
        repeat the call with the same ``id``.
        """
        message = NewMessage(event, *args, id=id, key=key, ttl_s=ttl_s, delay_s=delay_s, headers=headers)
        enqueued = await self._enqueue([self._to_store(message)], can_repeat=id is not None)
        return Receipt._make(enqueued.accepted[0])

    async def emit_many(self, messages: Sequence[NewMessage]) -> list[Receipt]:
        """Put several messages into the queue in one commit: all of them or none.

        Args:
            messages: The messages, in order.

        Returns:
            One receipt for each message, in the same order.

        Raises:
            QueueFull: The messages do not fit into the queue's limits, and the queue refuses what does not fit.
            EncodingFailed: An argument can't be encoded.
            ConfigurationError: ``messages`` is not a list of `NewMessage`.
            StorageError: The store could not write the messages; none is in the queue.

        Delivery: as for `emit`. After a cancellation all messages are in the queue, or none.
        """
        check("messages", messages, _MESSAGES)
        if not messages:
            return []
        codec, new_id = self._services.codec, self._deliveries.message_ids
        stored = [to_row(one, codec, new_id) for one in messages]
        enqueued = await self._enqueue(stored, can_repeat=any(one.id is not None for one in messages))
        return [*map(Receipt._make, enqueued.accepted)]

    async def cancel(self, id: Name) -> bool:
        """Remove a message with a delay that is not due yet.

        The id is free then: another message may have it. A message that is due already goes its way, and so does a
        dead letter that is redriven at a rate.

        Args:
            id: The message's id.

        Returns:
            True if the message was removed, and is delivered to nobody; False if no such message waits for its time.

        Raises:
            ConfigurationError: The id is no text that a message can have as its id.
            StorageError: The store could not remove the message.
        """
        return await self._stored.cancel(as_name("id", id)) > 0

    def publish(
        self,
        connection: sqlite3.Connection,
        event: str,
        *args: Any,
        id: Name | None = None,
        key: Name | None = None,
        ttl_s: float | None = None,
        delay_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Put a message into the queue in a transaction of the application's own, in the same SQLite file.

        The message is in the queue if that transaction commits; after a rollback it never was. This is a plain
        function: call it in the thread that uses the connection. `waypost.publish` does the same without a server.

        Args:
            connection: The application's connection to the store's file, from the module ``sqlite3``. Commit soon:
                an open transaction that has written keeps all others from writing to the store. A connection in
                autocommit mode commits at once.
            event: As for `emit`.
            args: As for `emit`.
            id: As for `emit`; a duplicate is dropped without a notice.
            key: As for `emit`.
            ttl_s: As for `emit`.
            delay_s: As for `emit`; counted from this call.
            headers: As for `emit`.

        Returns:
            The message's id.

        Raises:
            QueueFull: The message does not fit into the queue's limits, and the queue refuses what does not fit.
            EncodingFailed: An argument can't be encoded.
            ConfigurationError: ``connection`` is not a connection, or an argument has an impossible value.
            StorageError: The connection belongs to another file, the store is in memory, or the file stays locked for
                longer than the connection waits.

        Delivery: as for `emit`, within about 50 ms after the commit. The order is that of the commits, and within one
        commit that of the calls. Without a running server, delivery begins when a server starts.
        """
        message = NewMessage(event, *args, id=id, key=key, ttl_s=ttl_s, delay_s=delay_s, headers=headers)
        stored = self._to_store(message)
        self._services.store.queue(self._name).publish(
            connection, stored, deduplicate_s=0 if id is None else self.options.deduplication_s
        )
        return stored.id

    # -- reading --------------------------------------------------------------------------------------------

    async def info(self) -> QueueInfo:
        """Return the queue's state in numbers; cheap enough for a call every second.

        For many queues at once, `waypost.Server.queue_infos` is far cheaper.

        Raises:
            StorageError: The store did not answer.
        """
        row = queue_on_wall(self._clock, await self._stored.info())
        return queue_info(row, [*(await self._deliveries.loads_of(self._name)).values()])

    def get_consumer(self, name: Name = "default") -> Consumer:
        """Return a handle on a consumer, whether the consumer exists or not.

        To handle the queue's messages with a function, see `Server.consumer`.

        Args:
            name: The consumer's name.

        Raises:
            ConfigurationError: The name is no text that a consumer can have as its name.
        """
        return Consumer(self._name, name, self._services, self._deliveries)

    async def consumers(self, *, after: str = "", limit: int = _PAGE) -> list[ConsumerInfo]:
        """Return the state of consumers in numbers, sorted by name.

        Args:
            after: Only consumers whose names come after this one. For the next page, the last name returned.
            limit: The largest number of consumers to return, from 1.

        Raises:
            StorageError: The store did not answer.
        """
        check("after", after, TEXT)
        check("limit", limit, COUNT)
        stored = await self._stored.consumers(after=after, max_consumers=limit)
        rows = [consumer_on_wall(self._clock, one) for one in stored]
        loads = await self._deliveries.loads_of(self._name)
        return [consumer_info(self._name, row, loads.get((self._name, row.name))) for row in rows]

    async def peek(self, *, after: int = 0, limit: int = 10) -> list[QueuedMessage]:
        """Return messages that the queue keeps, sorted by offset. Some consumers may have acknowledged them.

        Args:
            after: Only messages after this offset. For the next page, the last offset returned.
            limit: The largest number of messages to return, from 1.

        Raises:
            StorageError: The store did not answer.
        """
        check("after", after, COUNT_OR_ZERO)
        check("limit", limit, COUNT)
        found = await self._stored.peek(after=after, max_messages=limit, max_bytes=_PAGE_BYTES)
        return [queued_message(message_on_wall(self._clock, one)) for one in found]

    # -- options and administration --------------------------------------------------------------------------

    @property
    def options(self) -> QueueOptions:
        """The queue's options: the server's, and over them those from `configure`."""
        return self._deliveries.configured.of(self._name)

    async def configure(self, **changes: Unpack[QueueSettings]) -> QueueOptions:
        """Change options of this queue, over the server's option ``queues``. The store keeps them over restarts.

        With ``overflow="drop_oldest"``, what is beyond lower limits is dropped at once.

        Args:
            changes: Options of `QueueOptions`, by name.

        Returns:
            All options of the queue from now on. A consumer with sockets or workers attached keeps its order until
            all have left.

        Raises:
            ConfigurationError: No option has that name, or a value is impossible.
            StorageError: The store could not write the options; nothing has changed.
        """
        configured = self._deliveries.configured
        settings, options = configured.with_changes(self._name, changes)
        limits = limits_of(options) if _LIMITS & settings.keys() else None
        await self._stored.configure(limits, encode_settings(settings))
        configured.keep(self._name, settings)
        self._deliveries.reconfigured(self._name)
        if limits is not None and limits.overflow == "drop_oldest":
            self._deliveries.changed(self._name)
        return options

    async def pause(self, *, until: datetime | None = None) -> None:
        """Stop deliveries to all consumers until `resume`. The store keeps the pause over restarts.

        Emitting goes on, and messages in flight may still be acknowledged.

        Args:
            until: The time at which the pause ends by itself, with a time zone; ``None`` for never.

        Raises:
            ConfigurationError: ``until`` is not a datetime, or has no time zone.
            StorageError: The store could not write the pause.
        """
        end = pause_until(until)
        await self._stored.pause(None, until=end)
        self._deliveries.changed(self._name)

    async def resume(self) -> None:
        """End a pause.

        Raises:
            StorageError: The store could not write the change.
        """
        await self._stored.pause(None, until=self._services.environment.wall_time())
        self._deliveries.changed(self._name)

    async def purge(self, *, upto: int | None = None) -> int:
        """Remove messages, acknowledged or not. Consumers and dead letters stay.

        Messages in flight are taken back, and later acks of them are ignored.

        Args:
            upto: The last offset to remove; ``None`` for all messages, those that are not due yet included.

        Returns:
            The number of messages removed.

        Raises:
            StorageError: The store could not remove them.
        """
        if upto is not None:
            check("upto", upto, COUNT_OR_ZERO)
        removed = await self._stored.purge(upto=upto)
        self._deliveries.begin_anew(self._name)
        return removed

    async def delete(self) -> None:
        """Remove the queue with its messages, consumers, dead letters and options. Sockets and workers are detached.

        One commit deletes the queue. Its contents are removed from the file in steps before this returns; if the
        process is killed in between, the next server on the store removes the rest.

        Raises:
            StorageError: The store could not delete the queue.
        """
        stored = self._stored
        self._deliveries.removed(self._name)
        await stored.delete()
        # Once more: a socket may have attached during the deletion.
        self._deliveries.removed(self._name)
        self._deliveries.configured.keep(self._name, {})
        self._deliveries.reconfigured(self._name)

    # -- dead letters ---------------------------------------------------------------------------------------

    async def dead_letters(
        self, matching: DeadLetterFilter | None = None, *, after: int = 0, limit: int = _PAGE
    ) -> list[DeadLetter]:
        """Return dead letters, sorted by number: the oldest first.

        Args:
            matching: Only dead letters that match this filter; ``None`` for all.
            after: Only dead letters after this number. For the next page, the last number returned.
            limit: The largest number of dead letters to return, from 1.

        Raises:
            StorageError: The store did not answer.
        """
        check("matching", matching, _MATCHING)
        check("after", after, COUNT_OR_ZERO)
        check("limit", limit, COUNT)
        found = await self._stored.dead_letters(
            filter_from_wall(self._clock, matching or DeadLetterFilter()),
            after=after,
            max_letters=limit,
            max_bytes=_PAGE_BYTES,
        )
        return [dead_letter(letter_on_wall(self._clock, one)) for one in found]

    async def redrive(self, matching: DeadLetterFilter | None = None, *, rate_per_s: float | None = None) -> int:
        """Turn dead letters into new messages, each for the consumer that gave it up, at the end of the queue.

        This takes the dead letters that exist at the beginning of the call. A message that dies again during the call
        stays a dead letter.

        Args:
            matching: Only dead letters that match this filter; ``None`` for all.
            rate_per_s: The number of messages that become due per second; ``None`` for all at once. When this
                returns, all are on disk as delayed messages, and a restart changes nothing.

        Returns:
            The number of dead letters redriven.

        Raises:
            ConfigurationError: ``rate_per_s`` is not above 0.
            StorageError: The store failed; some dead letters may be messages already. Repeat the call for the rest.
        """
        total = 0
        check("matching", matching, _MATCHING)
        async for count in self._redrive(filter_from_wall(self._clock, matching or DeadLetterFilter()), rate_per_s):
            total += count
        return total

    async def _redrive(self, matching: DeadLetterFilter, rate_per_s: float | None) -> AsyncIterator[int]:
        if rate_per_s is not None:
            check("rate_per_s", rate_per_s, POSITIVE)
        spacing_s = 0.0 if rate_per_s is None else 1.0 / rate_per_s
        first_at = self._clock.now()
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
        """Delete dead letters.

        Args:
            matching: Only dead letters that match this filter; ``None`` for all.

        Returns:
            The number of dead letters deleted.

        Raises:
            StorageError: The store failed; some dead letters may be deleted already. Repeat the call for the rest.
        """
        check("matching", matching, _MATCHING)
        total = 0
        chosen = filter_from_wall(self._clock, matching or DeadLetterFilter())
        while count := await self._stored.discard_dead(chosen, max_letters=_PAGE):
            total += count
        return total

    def _enqueue(self, messages: Sequence[NewMessageRow], *, can_repeat: bool) -> Awaitable[Enqueued]:
        # A plain function: emits are frequent, and one more coroutine would cost time.
        deliveries = self._deliveries
        return self._stored.enqueue(
            messages,
            # The queue can't have accepted an id before that was made just now.
            deduplicate_s=self.options.deduplication_s if can_repeat else 0,
            on_commit=partial(deliveries.accepted, self._name, messages),
        )

    def _to_store(self, message: NewMessage) -> NewMessageRow:
        return to_row(message, self._services.codec, self._deliveries.message_ids)

    @property
    def _clock(self) -> StoreClock:
        return self._services.store.clock

    @property
    def _stored(self) -> StoredQueue:
        self._services.own_loop.check("a method of a queue")
        return self._services.store.queue(self._name)


class QueueFromThread:
    """A `Queue` for threads; each method waits for its result. Made by ``from_thread``."""

    __slots__ = ("_inner", "_own_loop")

    def __init__(self, inner: Queue) -> None:
        self._inner = inner
        self._own_loop = inner._services.own_loop  # noqa: SLF001  # its own kind

    emit = blocking(Queue.emit)
    emit_many = blocking(Queue.emit_many)
    cancel = blocking(Queue.cancel)
    info = blocking(Queue.info)
    consumers = blocking(Queue.consumers)
    peek = blocking(Queue.peek)
    configure = blocking(Queue.configure)
    pause = blocking(Queue.pause)
    resume = blocking(Queue.resume)
    purge = blocking(Queue.purge)
    delete = blocking(Queue.delete)
    dead_letters = blocking(Queue.dead_letters)
    redrive = blocking(Queue.redrive)
    discard_dead_letters = blocking(Queue.discard_dead_letters)
