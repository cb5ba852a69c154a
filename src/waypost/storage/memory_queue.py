"""Queues in memory: messages by position, and for each consumer what it has settled."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

from waypost.errors import StorageError, StoreClosed
from waypost.storage.queue_base import Accepted, ConsumerInfo, Message, QueueInfo

__all__ = ["Backlog", "MemoryQueue", "Opening", "Settled"]


@dataclass(slots=True)
class Opening:
    """The time from a store's opening to its closing; what it made belongs to it.

    Attributes:
        store: The store, as errors name it.
        closed: Whether it is over.
    """

    store: str
    closed: bool

    def check(self) -> None:
        """Raise `StoreClosed` if it is over."""
        if self.closed:
            raise StoreClosed(self.store)


class Settled:
    """Positions that are done: all up to a cursor, and runs of them beyond it.

    Attributes:
        cursor: The position up to which all are done.
        ahead: How many are done beyond it.
    """

    __slots__ = ("_firsts", "_lasts", "ahead", "cursor")

    def __init__(self, cursor: int) -> None:
        self.cursor = cursor
        self.ahead = 0
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    def __contains__(self, position: int) -> bool:
        return self.next_open(position - 1) != position

    def next_open(self, position: int) -> int:
        """Return the first position after this one that is not done."""
        candidate = max(position, self.cursor) + 1
        run = bisect_right(self._firsts, candidate) - 1
        return self._lasts[run] + 1 if run >= 0 and self._lasts[run] >= candidate else candidate

    def add(self, position: int) -> None:
        """Note a position, not done before, as done."""
        after = bisect_right(self._firsts, position)
        joins_next = after < len(self._firsts) and self._firsts[after] == position + 1
        last = self._lasts[after] if joins_next else position
        if position == self.cursor + 1:
            self.cursor = last
            if joins_next:
                self.ahead -= last - position
                del self._firsts[0], self._lasts[0]
            return
        self.ahead += 1
        if joins_next:
            del self._firsts[after], self._lasts[after]
        if after > 0 and self._lasts[after - 1] == position - 1:
            self._lasts[after - 1] = last
        else:
            self._firsts.insert(after, position)
            self._lasts.insert(after, last)


@dataclass(slots=True)
class _Consumer:
    settled: Settled
    lost: dict[int, int] = field(default_factory=dict)


class Backlog:
    """What one queue keeps."""

    __slots__ = ("_accepted", "_bytes", "_consumers", "_messages", "_name", "_store", "_top")

    def __init__(self, store: str, name: str) -> None:
        self._store = store
        self._name = name
        self._top = 0
        self._bytes = 0
        self._messages: dict[int, Message] = {}
        self._consumers: dict[str, _Consumer] = {}
        # Message id -> its position, when it was accepted, when its window ends.
        self._accepted: dict[str, tuple[int, float, float]] = {}

    def enqueue(self, message_id: str, record: bytes, deduplicate_s: float, now: float) -> Accepted:
        """Add a message, unless its id is a duplicate."""
        if deduplicate_s > 0:
            position, accepted_at, until = self._accepted.get(message_id, (0, 0.0, 0.0))
            if position and now < min(until, accepted_at + deduplicate_s):
                return Accepted(message_id, position, duplicate=True)
            self._accepted[message_id] = (self._top + 1, now, now + deduplicate_s)
        self._top += 1
        self._bytes += len(record)
        self._messages[self._top] = Message(self._top, message_id, record, now, 0)
        return Accepted(message_id, self._top, duplicate=False)

    def add_consumer(self, name: str) -> ConsumerInfo:
        """Return a consumer, made at the oldest message if need be."""
        if name not in self._consumers:
            before = self._oldest() - 1
            settled = Settled(before)
            if len(self._messages) != self._top - before:
                for position in range(before + 1, self._top + 1):
                    if position not in self._messages:
                        settled.add(position)
            self._consumers[name] = _Consumer(settled)
        return self._consumer_info(name)

    def fetch(self, name: str, after: int, max_messages: int, max_bytes: int) -> list[Message]:
        """Return a consumer's unsettled messages after a position, within limits."""
        consumer = self._consumer(name)
        messages: list[Message] = []
        size = 0
        position = consumer.settled.next_open(after)
        while position <= self._top and len(messages) < max_messages:
            message = self._messages[position]
            size += len(message.record)
            if size > max_bytes and messages:
                break
            messages.append(replace(message, deliveries=consumer.lost.get(position, 0)))
            position = consumer.settled.next_open(position)
        return messages

    def settle(self, name: str, positions: Collection[int]) -> ConsumerInfo:
        """Mark messages as done for a consumer and remove those that all have done."""
        consumer = self._consumer(name)
        for position in sorted({*positions}):
            if position > self._top or position in consumer.settled:
                continue
            consumer.settled.add(position)
            consumer.lost.pop(position, None)
            if all(position in other.settled for other in self._consumers.values()):
                self._bytes -= len(self._messages.pop(position).record)
        return self._consumer_info(name)

    def count_delivery(self, name: str, position: int) -> None:
        """Count a lost delivery against a message that is not settled."""
        consumer = self._consumer(name)
        if position <= self._top and position not in consumer.settled:
            consumer.lost[position] = consumer.lost.get(position, 0) + 1

    def info(self) -> QueueInfo:
        """Return the queue's state."""
        oldest = self._messages.get(self._oldest())
        return QueueInfo(
            self._name,
            self._top,
            len(self._messages),
            self._bytes,
            None if oldest is None else oldest.enqueued_at,
            tuple(self._consumer_info(name) for name in sorted(self._consumers)),
        )

    def forget_ids(self, now: float) -> None:
        """Forget the ids whose deduplication window has ended."""
        self._accepted = {one: seen for one, seen in self._accepted.items() if now < seen[2]}

    def _oldest(self) -> int:
        # The first message after the slowest cursor is kept for the consumer that stands there.
        return min((one.settled.cursor for one in self._consumers.values()), default=0) + 1

    def _consumer(self, name: str) -> _Consumer:
        consumer = self._consumers.get(name)
        if consumer is None:
            raise StorageError(self._store, f"queue {self._name} has no consumer {name}")
        return consumer

    def _consumer_info(self, name: str) -> ConsumerInfo:
        settled = self._consumers[name].settled
        return ConsumerInfo(name, settled.cursor, self._top - settled.cursor - settled.ahead)


class MemoryQueue:
    """A handle on one queue of a `MemoryStore`; see `waypost.storage.base.Queue`.

    Args:
        name: The queue's name.
        opening: The opening of the store it belongs to.
        backlogs: The store's queues by name; a missing one is added when it is first written to.
        wall_time: The clock, in seconds since the epoch.
    """

    __slots__ = ("_backlogs", "_opening", "_wall_time", "name")

    def __init__(
        self, name: str, opening: Opening, backlogs: dict[str, Backlog], wall_time: Callable[[], float]
    ) -> None:
        self.name = name
        self._opening = opening
        self._backlogs = backlogs
        self._wall_time = wall_time

    async def enqueue(
        self, message_id: str, record: bytes, *, deduplicate_s: float, on_commit: Callable[[Accepted], None]
    ) -> Accepted:
        """Add a message, unless its id was accepted within the last ``deduplicate_s`` seconds."""
        accepted = self._made().enqueue(message_id, record, deduplicate_s, self._wall_time())
        on_commit(accepted)
        return accepted

    async def add_consumer(self, consumer: str) -> ConsumerInfo:
        """Return a consumer, made if need be."""
        return self._made().add_consumer(consumer)

    async def fetch(self, consumer: str, *, after: int, max_messages: int, max_bytes: int) -> list[Message]:
        """Read a consumer's unsettled messages after a position, oldest first."""
        return self._found().fetch(consumer, after, max_messages, max_bytes)

    async def settle(self, consumer: str, positions: Collection[int]) -> ConsumerInfo:
        """Mark messages as done for a consumer."""
        return self._found().settle(consumer, positions)

    async def count_delivery(self, consumer: str, position: int) -> None:
        """Count a delivery that was lost against an unsettled message."""
        self._found().count_delivery(consumer, position)

    async def info(self) -> QueueInfo:
        """Return the queue's state, all zero for one that does not exist."""
        return self._found().info()

    def _found(self) -> Backlog:
        self._opening.check()
        return self._backlogs.get(self.name) or Backlog(self._opening.store, self.name)

    def _made(self) -> Backlog:
        self._opening.check()
        return self._backlogs.setdefault(self.name, self._found())
