"""The public `Consumer`: a handle on a named position in a queue."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf

from waypost.checking.names import Name, as_name
from waypost.errors import ConfigurationError
from waypost.server.calling.from_thread import blocking
from waypost.server.queues.deliveries import Deliveries
from waypost.server.queues.load import Load
from waypost.server.queues.message import Start, to_place
from waypost.server.services import Services
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import ConsumerRow
from waypost.storage.wall_times import consumer_on_wall, place_from_wall

__all__ = [
    "Consumer",
    "ConsumerFromThread",
    "ConsumerInfo",
    "consumer_info",
    "messages_behind",
    "pause_end",
    "pause_until",
]


@dataclass(frozen=True, slots=True)
class ConsumerInfo:
    """A consumer's state in numbers.

    Attributes:
        queue: The name of the consumer's queue.
        name: The consumer's name.
        offset: The consumer has acknowledged or given up all messages up to this offset.
        waiting: The number of messages that it has not acknowledged, those in flight and those that wait for their
            next attempt included.
        retrying: The number of waiting messages with at least one failed or lost delivery.
        in_flight: The number of waiting messages that are delivered and not acknowledged yet.
        behind: The number of waiting messages that are in nobody's hands, and behind the one that comes next, if that
            waits for its next attempt.
        overdue: The number of messages that clients have had for longer than ``lease_s``, without an ack: a handler
            may be missing, or may not call its callback.
        acknowledged: The number of messages that it has ever acknowledged.
        redelivered: The number of deliveries that have ever ended without an ack.
        dead_letters: The number of its dead letters.
        lost: The number of messages that the queue's limits removed before the consumer acknowledged them, and of
            which it was not told yet.
        paused_until: The time at which its pause ends; ``None`` if it is not paused. `datetime.max` stands for a
            pause until `Consumer.resume`.
        active_at: The time of the last attachment or ack.
        attached: The number of sockets and workers attached.
        delivered_per_s: Deliveries per second, over the last 10 to 20 seconds.
        acknowledged_per_s: Acks per second, measured alike.
        redelivered_per_s: Failed deliveries per second, measured alike.
    """

    queue: str
    name: str
    offset: int
    waiting: int
    retrying: int
    in_flight: int
    behind: int
    overdue: int
    acknowledged: int
    redelivered: int
    dead_letters: int
    lost: int
    paused_until: datetime | None
    active_at: datetime
    attached: int
    delivered_per_s: float
    acknowledged_per_s: float
    redelivered_per_s: float


def consumer_info(queue: str, row: ConsumerRow, load: Load | None) -> ConsumerInfo:
    """Combine a consumer's row in the store with the numbers of the runner that serves it now."""
    load = load or Load(queue, row.name)
    return ConsumerInfo(
        queue=queue,
        name=row.name,
        offset=row.cursor,
        waiting=row.waiting,
        retrying=row.retrying,
        in_flight=load.in_flight,
        behind=messages_behind(row, load.in_flight),
        overdue=load.overdue,
        acknowledged=row.settled,
        redelivered=row.redelivered,
        dead_letters=row.dead,
        lost=0 if row.lost is None else row.lost.messages,
        paused_until=pause_end(row.paused_until),
        active_at=datetime.fromtimestamp(row.active_at, UTC),
        attached=load.attached,
        delivered_per_s=load.delivered_per_s,
        acknowledged_per_s=load.acknowledged_per_s,
        redelivered_per_s=load.redelivered_per_s,
    )


def messages_behind(row: ConsumerRow, in_flight: int = 0) -> int:
    """Return the number of a consumer's messages that wait behind those in flight, or behind the next one."""
    return max(row.waiting - max(in_flight, 1), 0)


def pause_until(until: object) -> float:
    """Turn the argument of a pause into the store's form; raises `ConfigurationError` if it is no point in time."""
    if until is None:
        return inf
    if not isinstance(until, datetime) or until.tzinfo is None:
        raise ConfigurationError("until", until, "a datetime with a time zone, such as datetime.now(UTC), or None")
    return until.timestamp()


def pause_end(stored: float | None) -> datetime | None:
    """Convert the end of a pause from the store's form into the public form."""
    if stored is None:
        return None
    return datetime.max.replace(tzinfo=UTC) if stored == inf else datetime.fromtimestamp(stored, UTC)


class Consumer:
    """A named position in a queue. Made by `Queue.get_consumer`.

    The object is a handle without state: make one whenever you need it. The consumer itself begins with `create`, or
    when a socket or worker attaches for the first time. Other methods raise `StorageError` before that.
    """

    __slots__ = ("_deliveries", "_name", "_queue", "_services")

    def __init__(self, queue: str, name: Name, services: Services, deliveries: Deliveries) -> None:
        self._queue = queue
        self._name = as_name("consumer", name)
        self._services = services
        self._deliveries = deliveries

    def __repr__(self) -> str:
        return f"<Consumer {self._name} of {self._queue}>"

    @property
    def name(self) -> str:
        """The consumer's name."""
        return self._name

    @property
    def queue(self) -> str:
        """The name of the consumer's queue."""
        return self._queue

    @property
    def from_thread(self) -> ConsumerFromThread:
        """The same methods for threads, which wait for the result; see `Queue.from_thread`."""
        return ConsumerFromThread(self)

    async def info(self) -> ConsumerInfo:
        """Return the consumer's state in numbers; cheap enough for a call every second.

        Raises:
            StorageError: The consumer does not exist, or the store did not answer.
        """
        store = self._services.store
        stored = consumer_on_wall(store.clock, await self._stored.consumer(self._name))
        loads = await self._deliveries.loads_of(self._queue)
        return consumer_info(self._queue, stored, loads.get((self._queue, self._name)))

    async def create(self, *, start: Start = "oldest") -> None:
        """Make the consumer before a socket or worker attaches, so that the queue keeps messages for it from now on.

        Args:
            start: The place where a new consumer starts, as for `Socket.consume`; ignored if the consumer exists.

        Raises:
            ConfigurationError: ``start`` is no place.
            StorageError: The store could not write the consumer.
        """
        store = self._services.store
        place = place_from_wall(store.clock, to_place(start))
        await self._stored.add_consumer(self._name, start=place)

    async def seek(self, to: Start) -> None:
        """Move the consumer back or forth. Messages in flight are taken back, and later acks of them are ignored.

        Args:
            to: ``"oldest"`` for the oldest message in the queue, ``"new"`` for behind the newest. An offset or a time
                stands for the first message from there on. Messages that all consumers have acknowledged are gone,
                unless the queue keeps them (``keep_settled_s``).

        Raises:
            ConfigurationError: ``to`` is no place.
            StorageError: The consumer does not exist, or the store could not write the change.
        """
        store = self._services.store
        await self._stored.seek(self._name, place_from_wall(store.clock, to_place(to, argument="to")))
        self._deliveries.changed(self._queue, self._name)

    async def pause(self, *, until: datetime | None = None) -> None:
        """Stop deliveries until `resume`. The store keeps the pause over restarts.

        Messages in flight may still be acknowledged.

        Args:
            until: The time at which the pause ends by itself, with a time zone; ``None`` for never.

        Raises:
            ConfigurationError: ``until`` is not a datetime, or has no time zone.
            StorageError: The consumer does not exist, or the store could not write the pause.
        """
        end = pause_until(until)
        await self._stored.pause(self._name, until=end)
        self._deliveries.changed(self._queue, self._name)

    async def resume(self) -> None:
        """End a pause.

        Raises:
            StorageError: The consumer does not exist, or the store could not write the change.
        """
        await self._stored.pause(self._name, until=self._services.environment.wall_time())
        self._deliveries.changed(self._queue, self._name)

    async def delete(self) -> None:
        """Delete the consumer with its dead letters, and detach its sockets and workers.

        Raises:
            StorageError: The store could not delete the consumer.
        """
        stored = self._stored
        self._deliveries.removed(self._queue, self._name)
        await stored.remove_consumer(self._name)
        # Once more: a socket may have attached during the deletion.
        self._deliveries.removed(self._queue, self._name)

    @property
    def _stored(self) -> StoredQueue:
        self._services.own_loop.check("a method of a consumer")
        return self._services.store.queue(self._queue)


class ConsumerFromThread:
    """A `Consumer` for threads; each method waits for its result. Made by ``from_thread``."""

    __slots__ = ("_inner", "_own_loop")

    def __init__(self, inner: Consumer) -> None:
        self._inner = inner
        self._own_loop = inner._services.own_loop  # noqa: SLF001  # its own kind

    info = blocking(Consumer.info)
    create = blocking(Consumer.create)
    seek = blocking(Consumer.seek)
    pause = blocking(Consumer.pause)
    resume = blocking(Consumer.resume)
    delete = blocking(Consumer.delete)
