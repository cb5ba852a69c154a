"""The queues in memory: handles on single queues, and the operations on all of them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count, islice
from typing import Any

from waypost.errors import QueueFull, StorageError, StoreClosed
from waypost.storage.clock import StoreClock
from waypost.storage.memory.backlog import Backlog
from waypost.storage.memory.pages import matches, page_of, page_of_names, while_holds
from waypost.storage.memory.records import ConsumerState, Scheduled
from waypost.storage.queue_base import DEAD_LETTER_S
from waypost.storage.queue_records import (
    Accepted,
    Attempt,
    Configuration,
    ConsumerRow,
    DeadLetterFilter,
    DeadLetterRow,
    Due,
    Enqueued,
    ExpiredConsumer,
    MessageRow,
    NewMessageRow,
    Place,
    QueueLimits,
    QueueRow,
    Redriven,
    Retries,
)

__all__ = ["MemoryQueue", "MemoryQueues", "Opening"]


@dataclass(slots=True)
class Opening:
    """The time from a store's opening to its closing; all handles belong to one opening.

    Attributes:
        store: The store, as errors name it.
        closed: Whether it has ended.
    """

    store: str
    closed: bool

    def check(self) -> None:
        """Check that the store is open.

        Raises:
            StoreClosed: It was closed.
        """
        if self.closed:
            raise StoreClosed(self.store)


class MemoryQueues:
    """All queues of one opening of a `MemoryStore`.

    Args:
        opening: The opening.
        limits: The limits of queues that have none of their own.
        clock: The clock that durations are measured on.

    Attributes:
        opening: The opening.
        clock: That clock.
        backlogs: The queues that exist, by name.
        accepted: Queue and message id -> its position (if it is not due, its number, negative), when it was accepted,
            when its window ends.
        numbers: Counts messages with a delay, and dead letters.
    """

    def __init__(self, opening: Opening, limits: QueueLimits, clock: StoreClock) -> None:
        self.opening = opening
        self.clock = clock
        self.backlogs: dict[str, Backlog] = {}
        self.accepted: dict[tuple[str, str], tuple[int, float, float]] = {}
        self.numbers = count(1)
        self._limits = limits
        # The names of all by name, until there is another one.
        self._names: list[str] | None = None
        # When, number, queue of messages that are not due, and of some that are gone.
        self._due: list[tuple[float, int, str]] = []

    def found(self, name: str) -> Backlog:
        """Return a queue; for an unknown one, an empty queue that is not stored."""
        self.opening.check()
        return self.backlogs.get(name) or Backlog(self.opening.store, name, self._limits, self.clock.now)

    def made(self, name: str) -> Backlog:
        """Return a queue; if it does not exist, make it."""
        backlog = self.found(name)
        if name not in self.backlogs:
            self.backlogs[name] = backlog
            self._names = None
        return backlog

    def remove(self, name: str) -> None:
        """Remove a queue with its messages and consumers."""
        self.opening.check()
        if self.backlogs.pop(name, None) is not None:
            self._names = None
        self.accepted = {one: seen for one, seen in self.accepted.items() if one[0] != name}

    def infos(self, after: str, most: int, *, idle: bool) -> list[QueueRow]:
        """Return the states of queues whose names come after one, by name; see `Store.queues`."""
        self.opening.check()
        if self._names is None:
            self._names = sorted(self.backlogs)
        names = islice(self._names, bisect_right(self._names, after), None)
        found = (self.backlogs[name] for name in names)
        return [one.info() for one in islice((one for one in found if idle or one.keeps_something), most)]

    def schedule(self, name: str, one: Scheduled) -> int:
        """Keep a message that is not due yet; returns its number."""
        backlog, number = self.backlogs[name], next(self.numbers)
        backlog.scheduled[number] = one
        backlog.bytes += one.size
        heappush(self._due, (one.due_at, number, name))
        return number

    def next_due_at(self) -> float | None:
        """Return when the next message is due, of all queues."""
        while self._due:
            due_at, number, name = self._due[0]
            if name in self.backlogs and number in self.backlogs[name].scheduled:
                return due_at
            heappop(self._due)
        return None

    def release_due(self) -> Due:
        """Assign positions to messages that are due."""
        now = self.clock.now()
        released: set[str] = set()
        while (due_at := self.next_due_at()) is not None and due_at <= now:
            _, number, name = heappop(self._due)
            released.add(name)
            backlog = self.backlogs[name]
            one = backlog.scheduled.pop(number)
            backlog.bytes -= one.size
            position = backlog.append(one, now)
            seen = self.accepted.get((name, one.id))
            if seen is not None and seen[0] == -number:
                self.accepted[name, one.id] = (position, *seen[1:])
        return Due(frozenset(released), self.next_due_at())

    def trim(self) -> None:
        """Remove messages that are too old or have outlived their time to live."""
        now = self.clock.now()
        for backlog in self.backlogs.values():
            backlog.end_kept()
            outlived = backlog.outlived(now)
            backlog.drop(outlived)
            backlog.expired += len(outlived)
            backlog.lose(backlog.older_than(now - backlog.effective_limits.max_age_s))
            old = [number for number, one in backlog.letters.items() if one.died_at < now - DEAD_LETTER_S]
            backlog.forget_letters(old)
        self.accepted = {one: seen for one, seen in self.accepted.items() if now < seen[2]}

    def expire_consumers(self, idle_s: float, attached: Collection[tuple[str, str]]) -> list[ExpiredConsumer]:
        """Remove consumers that were not used for a time."""
        limit = self.clock.now() - idle_s
        expired: list[ExpiredConsumer] = []
        for name, backlog in self.backlogs.items():
            for consumer in [*backlog.consumers.values()]:
                if consumer.active_at < limit and (name, consumer.name) not in attached:
                    info = backlog.consumer_info(consumer)
                    expired.append(ExpiredConsumer(name, info.name, info.waiting, info.dead))
                    backlog.remove_consumer(info.name)
        return expired


class MemoryQueue:
    """A handle on one queue of a `MemoryStore`; see `waypost.storage.queue_base.Queue`."""

    __slots__ = ("_queues", "name")

    def __init__(self, name: str, queues: MemoryQueues) -> None:
        self.name = name
        self._queues = queues

    # -- messages --------------------------------------------------------------------------------------------

    async def enqueue(
        self, messages: Sequence[NewMessageRow], *, deduplicate_s: float, on_commit: Callable[[Enqueued], None]
    ) -> Enqueued:
        """Add messages, all or none."""
        now = self._queues.clock.now()
        found = self._queues.found(self.name)
        seen, fresh = self._look_up(messages, deduplicate_s, now)
        losers = self._make_room(found, fresh)
        backlog = self._queues.made(self.name)
        next_due_at: float | None = None
        accepted: list[Accepted] = []
        for message in messages:
            if message.id in seen:
                accepted.append(Accepted(message.id, max(0, self._position(message.id)), duplicate=True))
                continue
            position = self._add(backlog, message, now)
            if position < 0:
                due_at = now + message.delay_s
                next_due_at = due_at if next_due_at is None else min(next_due_at, due_at)
            if deduplicate_s > 0:
                self._queues.accepted[self.name, message.id] = (position, now, now + deduplicate_s)
                seen.add(message.id)
            accepted.append(Accepted(message.id, max(0, position), duplicate=False))
        enqueued = Enqueued(tuple(accepted), tuple(losers), next_due_at)
        on_commit(enqueued)
        return enqueued

    def _look_up(
        self, messages: Sequence[NewMessageRow], deduplicate_s: float, now: float
    ) -> tuple[set[str], list[NewMessageRow]]:
        """Return the ids that were accepted before, and the messages that are to be added."""
        if deduplicate_s <= 0:
            return set(), [*messages]
        known = {message.id for message in messages if self._is_duplicate(message.id, deduplicate_s, now)}
        fresh = {message.id: message for message in reversed(messages) if message.id not in known}
        return known, [*fresh.values()]

    def _is_duplicate(self, message_id: str, deduplicate_s: float, now: float) -> bool:
        seen = self._queues.accepted.get((self.name, message_id))
        return seen is not None and now < min(seen[2], seen[1] + deduplicate_s)

    def _position(self, message_id: str) -> int:
        return self._queues.accepted[self.name, message_id][0]

    def _make_room(self, backlog: Backlog, messages: list[NewMessageRow]) -> list[str]:
        limits = backlog.effective_limits
        size = sum(one.size for one in messages)
        if messages:
            backlog.free_kept(
                backlog.count + len(messages) - limits.max_messages, backlog.bytes + size - limits.max_bytes
            )
        beyond = backlog.count + len(messages) - limits.max_messages
        beyond_bytes = backlog.bytes + size - limits.max_bytes
        dropped: list[int] = []
        if messages and limits.overflow == "drop_oldest":
            dropped, beyond, beyond_bytes = _oldest(backlog, beyond, beyond_bytes)
        if messages and (beyond > 0 or beyond_bytes > 0):
            store, sizes = self._queues.opening.store, (backlog.count, backlog.bytes)
            raise QueueFull(store, self.name, *sizes, limits.max_messages, limits.max_bytes)
        return backlog.lose(dropped)

    def _add(self, backlog: Backlog, message: NewMessageRow, now: float) -> int:
        """Add a message; returns its position, or its number, negative, if it is not due."""
        due_at = now + message.delay_s
        id_, record, key, ttl_s, _, headers = message
        one = Scheduled(id_, record, key, ttl_s, due_at, headers=headers)
        if message.delay_s <= 0:
            return backlog.append(one, now)
        return -self._queues.schedule(self.name, one)

    def publish(self, connection: Any, message: NewMessageRow, *, deduplicate_s: float) -> None:
        """Refuse: there is no database to have a transaction in."""
        problem = (
            "nothing can be published in a transaction; keep the store in a file, where the application's data is"
        )
        raise StorageError(self._queues.opening.store, problem)

    async def peek(self, *, after: int, max_messages: int, max_bytes: int) -> list[MessageRow]:
        """Read messages as the queue keeps them."""
        return page_of(self._queues.found(self.name).kept(after), max_messages, max_bytes)

    async def purge(self, *, upto: int | None = None) -> int:
        """Remove messages, settled or not."""
        backlog = self._queues.found(self.name)
        purged = backlog.purge(backlog.top if upto is None else upto)
        if upto is None:
            purged += len(backlog.scheduled)
            backlog.bytes -= sum(one.size for one in backlog.scheduled.values())
            backlog.scheduled.clear()
        return purged

    async def cancel(self, message_id: str) -> int:
        """Remove the messages with an id that are not due yet."""
        backlog = self._queues.found(self.name)
        chosen = [number for number, one in backlog.scheduled.items() if one.id == message_id and one.only is None]
        for number in chosen:
            backlog.bytes -= backlog.scheduled.pop(number).size
        seen = self._queues.accepted.get((self.name, message_id))
        if seen is not None and -seen[0] in chosen:
            del self._queues.accepted[self.name, message_id]
        return len(chosen)

    async def configure(self, limits: QueueLimits | None, settings: bytes) -> None:
        """Keep limits and settings, and drop what does not fit into the limits any more."""
        backlog = self._queues.made(self.name)
        backlog.limits, backlog.settings = limits, settings
        held = backlog.effective_limits
        if held.overflow == "drop_oldest" and not held.keep_settled_s:
            beyond, beyond_bytes = backlog.count - held.max_messages, backlog.bytes - held.max_bytes
            backlog.lose(_oldest(backlog, beyond, beyond_bytes)[0])

    async def configuration(self) -> Configuration:
        """Return the queue's configuration."""
        backlog = self._queues.found(self.name)
        return Configuration(self.name, backlog.limits, backlog.settings or b"")

    async def delete(self) -> None:
        """Remove the queue with all it has."""
        self._queues.opening.check()
        self._queues.remove(self.name)

    async def info(self) -> QueueRow:
        """Return the queue's state."""
        if self.name not in self._queues.backlogs:
            self._queues.opening.check()
            return QueueRow(self.name)
        return self._queues.found(self.name).info()

    # -- consumers -------------------------------------------------------------------------------------------

    async def add_consumer(self, consumer: str, *, start: Place = "oldest") -> ConsumerRow:
        """Return a consumer; if it does not exist, make it."""
        backlog = self._queues.made(self.name)
        return backlog.consumer_info(backlog.add_consumer(consumer, start, self._queues.clock.now()))

    async def consumer(self, consumer: str) -> ConsumerRow:
        """Return a consumer's state."""
        backlog, found = self._found(consumer)
        return backlog.consumer_info(found)

    async def consumers(self, *, after: str = "", max_consumers: int = 1000) -> list[ConsumerRow]:
        """Return the states of consumers by name."""
        backlog = self._queues.found(self.name)
        names = page_of_names(backlog.consumers, after, max_consumers)
        return [backlog.consumer_info(backlog.consumers[name]) for name in names]

    async def seek(self, consumer: str, place: Place) -> ConsumerRow:
        """Move a consumer to a place."""
        backlog, found = self._found(consumer)
        backlog.seek(found, place)
        return backlog.consumer_info(found)

    async def pause(self, consumer: str | None, *, until: float) -> None:
        """Note that a consumer or the queue is paused."""
        paused = self._queues.made(self.name) if consumer is None else self._found(consumer)[1]
        paused.paused_until = until if until > self._queues.clock.wall() else None

    async def remove_consumer(self, consumer: str) -> None:
        """Forget a consumer."""
        self._queues.found(self.name).remove_consumer(consumer)

    async def forget_loss(self, consumer: str, upto: int) -> ConsumerRow:
        """Forget a consumer's losses, which were reported."""
        backlog, found = self._found(consumer)
        if found.lost is not None and found.lost.last <= upto:
            found.lost = None
        return backlog.consumer_info(found)

    # -- reading ---------------------------------------------------------------------------------------------

    async def fetch(self, consumer: str, *, after: int, max_messages: int, max_bytes: int) -> list[MessageRow]:
        """Read a consumer's unsettled messages after a position."""
        backlog, found = self._found(consumer)
        return self._alive(backlog.unsettled(found, after), max_messages, max_bytes)

    async def fetch_key(
        self, consumer: str, key: str, *, after: int, upto: int, max_messages: int, max_bytes: int
    ) -> list[MessageRow]:
        """Read a consumer's unsettled messages with a key."""
        backlog, found = self._found(consumer)
        messages = while_holds(backlog.unsettled_with_key(found, key, after), lambda one: one.position <= upto)
        return self._alive(messages, max_messages, max_bytes)

    async def fetch_retries(
        self, consumer: str, *, upto: int, held: Collection[int], max_messages: int, max_bytes: int
    ) -> Retries:
        """Read messages that are due again."""
        backlog, found = self._found(consumer)
        now = self._queues.clock.now()
        due = (one for one in backlog.retries(found, now) if one.position <= upto and one.position not in held)
        return Retries(tuple(self._alive(due, max_messages, max_bytes)), found.next_retry_at(now))

    def _alive(self, messages: Iterable[MessageRow], max_messages: int, max_bytes: int) -> list[MessageRow]:
        now = self._queues.clock.now()
        alive = (one for one in messages if one.expires_at is None or now < one.expires_at)
        return page_of(alive, max_messages, max_bytes)

    # -- what became of them ---------------------------------------------------------------------------------

    async def settle(self, consumer: str, epoch: int, positions: Collection[int]) -> ConsumerRow:
        """Mark messages as done for a consumer."""
        backlog, found = self._found(consumer)
        if epoch == found.epoch:
            backlog.settle(found, positions)
            found.active_at = self._queues.clock.now()
        return backlog.consumer_info(found)

    async def retry(self, consumer: str, epoch: int, attempts: Sequence[Attempt]) -> ConsumerRow:
        """Keep how attempts ended."""
        backlog, found = self._found(consumer)
        for attempt in attempts:
            if epoch == found.epoch:
                backlog.retry(found, attempt)
        return backlog.consumer_info(found)

    async def bury(self, consumer: str, epoch: int, attempts: Sequence[Attempt]) -> ConsumerRow:
        """Settle messages and keep them as dead letters."""
        backlog, found = self._found(consumer)
        for attempt in attempts:
            if epoch == found.epoch:
                backlog.bury(found, attempt, next(self._queues.numbers))
        return backlog.consumer_info(found)

    def hold(self, consumer: str, holder: str, position: int | None) -> None:
        """Note the oldest message that a holder holds."""
        self._queues.opening.check()
        found = self._queues.found(self.name).consumers.get(consumer)
        if found is None:
            return
        if position is None:
            found.holding.pop(holder, None)
        else:
            found.holding[holder] = position

    # -- dead letters ----------------------------------------------------------------------------------------

    async def dead_letters(
        self, matching: DeadLetterFilter, *, after: int, max_letters: int, max_bytes: int
    ) -> list[DeadLetterRow]:
        """Read dead letters."""
        letters = self._queues.found(self.name).letters
        found = (letters[number] for number in sorted(letters) if number > after)
        return page_of((one for one in found if matches(matching, one)), max_letters, max_bytes)

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
        backlog = self._queues.found(self.name)
        now = self._queues.clock.now()
        newest = max(backlog.letters, default=0)
        letters = await self.dead_letters(matching, after=after, max_letters=max_letters, max_bytes=1 << 62)
        letters = [one for one in letters if upto is None or one.number <= upto]
        backlog.forget_letters([one.number for one in letters])
        next_due_at: float | None = None
        for index, one in enumerate(letters):
            due_at = first_at + index * spacing_s
            again = Scheduled(one.id, one.record, one.key, None, due_at, one.consumer, one.history, one.headers)
            if due_at <= now:
                backlog.append(again, now)
                continue
            self._queues.schedule(self.name, again)
            next_due_at = due_at if next_due_at is None else next_due_at
        return Redriven(len(letters), letters[-1].number if letters else 0, newest, next_due_at)

    async def discard_dead(self, matching: DeadLetterFilter, *, max_letters: int) -> int:
        """Forget dead letters."""
        letters = await self.dead_letters(matching, after=0, max_letters=max_letters, max_bytes=1 << 62)
        self._queues.found(self.name).forget_letters([one.number for one in letters])
        return len(letters)

    def _found(self, consumer: str) -> tuple[Backlog, ConsumerState]:
        backlog = self._queues.found(self.name)
        return backlog, backlog.found(consumer)


def _oldest(backlog: Backlog, beyond: int, beyond_bytes: int) -> tuple[list[int], int, int]:
    """Choose what is to be dropped; returns the positions, and what is too much still."""
    dropped: list[int] = []
    for one in backlog.kept():
        if beyond <= 0 and beyond_bytes <= 0:
            break
        dropped.append(one.position)
        beyond -= 1
        beyond_bytes -= one.size
    return dropped, beyond, beyond_bytes
