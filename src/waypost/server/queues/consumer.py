"""The public consumer: a named position in a queue, as the server's code sees it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf

from waypost.checking.names import Name, as_name
from waypost.errors import ConfigurationError
from waypost.server.queues.deliveries import Deliveries
from waypost.server.queues.message import Start, to_place
from waypost.server.queues.runner import Runner
from waypost.server.services import Services
from waypost.storage.queue_records import ConsumerRow

__all__ = ["Consumer", "ConsumerInfo", "consumer_info", "pause_end", "pause_until"]


@dataclass(frozen=True, slots=True)
class ConsumerInfo:
    """A consumer's numbers.

    Attributes:
        queue: Its queue.
        name: Its name.
        offset: Up to here it has nothing left to do.
        waiting: How many messages it has not acknowledged; those in flight and those that wait for another try too.
        retrying: How many of these have failed, or were lost with a connection, before.
        in_flight: How many are in somebody's hands.
        acknowledged: How many it has acknowledged in all.
        redelivered: How many deliveries ended without an ack, in all.
        dead_letters: How many dead letters are kept for it.
        lost: How many messages it lost to the queue's limits and was not told of yet.
        paused_until: Until when it is paused; ``None`` if it is not. `datetime.max` stands for "until it is resumed".
        active_at: When it was last attached to, or acknowledged something.
        attached: How many sockets and workers are attached.
        delivered_per_s: Deliveries a second, over the last 10 to 20 seconds.
        acknowledged_per_s: Acks a second.
        redelivered_per_s: Failed deliveries a second.
    """

    queue: str
    name: str
    offset: int
    waiting: int
    retrying: int
    in_flight: int
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


def consumer_info(queue: str, row: ConsumerRow, runner: Runner | None) -> ConsumerInfo:
    """Put together what the store knows of a consumer and what is going on right now."""
    return ConsumerInfo(
        queue=queue,
        name=row.name,
        offset=row.cursor,
        waiting=row.waiting,
        retrying=row.retrying,
        in_flight=0 if runner is None else runner.in_flight,
        acknowledged=row.settled,
        redelivered=row.redelivered,
        dead_letters=row.dead,
        lost=0 if row.lost is None else row.lost.messages,
        paused_until=pause_end(row.paused_until),
        active_at=datetime.fromtimestamp(row.active_at, UTC),
        attached=0 if runner is None else len(runner.takers),
        delivered_per_s=0.0 if runner is None else runner.meter.delivered.per_second,
        acknowledged_per_s=0.0 if runner is None else runner.meter.acknowledged.per_second,
        redelivered_per_s=0.0 if runner is None else runner.meter.redelivered.per_second,
    )


def pause_until(until: object) -> float:
    """Turn the argument of a pause into the store's form; raises `ConfigurationError` if it is no point in time."""
    if until is None:
        return inf
    if not isinstance(until, datetime) or until.tzinfo is None:
        raise ConfigurationError("until", until, "a datetime with a time zone, such as datetime.now(UTC), or None")
    return until.timestamp()


def pause_end(stored: float | None) -> datetime | None:
    """Turn the end of a pause from the store's form into the public one."""
    if stored is None:
        return None
    return datetime.max.replace(tzinfo=UTC) if stored == inf else datetime.fromtimestamp(stored, UTC)


class Consumer:
    """A named position in a queue. Made by `Queue.consumer`.

    A handle without state of its own: make one whenever you need it. A consumer begins when something is first
    attached to it; what is asked of one that does not exist raises `StorageError`.
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
        """Its name."""
        return self._name

    @property
    def queue(self) -> str:
        """The name of its queue."""
        return self._queue

    async def info(self) -> ConsumerInfo:
        """Return its numbers; cheap enough to be asked for every second.

        Raises:
            StorageError: There is no such consumer, or the store did not answer.
        """
        stored = await self._services.store.queue(self._queue).consumer(self._name)
        return consumer_info(self._queue, stored, self._deliveries.runner(self._queue, self._name))

    async def create(self, *, start: Start = "oldest") -> None:
        """Let it exist before anything is attached to it, so that the queue keeps messages for it.

        Args:
            start: Where it starts, if it is new; see `Socket.consume`.

        Raises:
            StorageError: The store did not take it.
        """
        await self._services.store.queue(self._queue).add_consumer(self._name, start=to_place(start))

    async def seek(self, to: Start) -> None:
        """Move it, back or forth. What is in flight counts no more, and acks from before it are void.

        Args:
            to: ``"oldest"``: the oldest message that the queue still keeps; ``"new"``: behind the newest; an offset,
                or a time: the first message from there on. Messages that all consumers have acknowledged are gone.

        Raises:
            StorageError: There is no such consumer, or the store did not take it.
        """
        await self._services.store.queue(self._queue).seek(self._name, to_place(to))
        self._deliveries.changed(self._queue, self._name)

    async def pause(self, *, until: datetime | None = None) -> None:
        """Hand out nothing until it is resumed; kept over restarts. What is in flight may still be acknowledged.

        Args:
            until: When it resumes by itself, with a time zone; ``None`` for not.

        Raises:
            ConfigurationError: ``until`` is no datetime, or has no time zone.
            StorageError: There is no such consumer, or the store did not take it.
        """
        end = pause_until(until)
        await self._services.store.queue(self._queue).pause(self._name, until=end)
        self._deliveries.changed(self._queue, self._name)

    async def resume(self) -> None:
        """Go on after a pause.

        Raises:
            StorageError: There is no such consumer, or the store did not take it.
        """
        await self._services.store.queue(self._queue).pause(self._name, until=self._services.environment.wall_time())
        self._deliveries.changed(self._queue, self._name)

    async def delete(self) -> None:
        """End it, with its dead letters; what is attached to it gets nothing more.

        Raises:
            StorageError: The store did not take it.
        """
        self._deliveries.removed(self._queue, self._name)
        await self._services.store.queue(self._queue).remove_consumer(self._name)
        # Once more: somebody may have come meanwhile.
        self._deliveries.removed(self._queue, self._name)
