"""One queue in memory: messages by position, and the unsettled messages of each consumer."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import takewhile
from sys import maxsize

from waypost.errors import StorageError
from waypost.storage.generation import new_generation
from waypost.storage.memory.records import ConsumerState, Kept, Outstanding, Scheduled
from waypost.storage.ordered import Ordered
from waypost.storage.queue_base import AT_ONCE, HOW_TO_BEGIN, MAX_HISTORY
from waypost.storage.queue_records import (
    Attempt,
    ConsumerRow,
    DeadLetterRow,
    FromPosition,
    FromTime,
    HistoryItem,
    Loss,
    MessageRow,
    Place,
    QueueLimits,
    QueueRow,
)

__all__ = ["Backlog"]


class Backlog:
    """One queue.

    Args:
        store: The store, as errors name it.
        name: The queue's name.
        default: The limits of a queue that has none of its own.
        now: The store's clock.

    Attributes:
        limits: Its own limits.
        settings: What else the caller keeps with it.
        consumers: Its consumers by name.
        letters: Its dead letters by number.
        scheduled: Its messages that are not due yet, by number.
    """

    def __init__(self, store: str, name: str, default: QueueLimits, now: Callable[[], float]) -> None:
        self.store = store
        self.name = name
        self.generation = new_generation()
        self.limits: QueueLimits | None = None
        self.settings: bytes | None = None
        self.top = 0
        self.bytes = 0
        self.expired = 0
        self.dropped = 0
        self.paused_until: float | None = None
        self.consumers: dict[str, ConsumerState] = {}
        self.letters: dict[int, DeadLetterRow] = {}
        self.scheduled: dict[int, Scheduled] = {}
        self._default = default
        self._now = now
        self._epochs = 0
        self._for_all = 0
        self._messages: Ordered[Kept] = Ordered()
        self._by_key: dict[str, Ordered[None]] = {}
        self._mortal: dict[int, None] = {}
        # Those that all have settled, in the order in which that was, and some that a consumer wants again.
        self._settled: dict[int, None] = {}

    # -- messages --------------------------------------------------------------------------------------------

    @property
    def effective_limits(self) -> QueueLimits:
        """The limits that hold."""
        return self.limits or self._default

    @property
    def count(self) -> int:
        """The number of messages, delayed ones included."""
        return len(self._messages) + len(self.scheduled)

    def append(self, one: Scheduled, now: float) -> int:
        """Assign the next position to a message."""
        self.top += 1
        expires_at = None if one.ttl_s is None else one.due_at + one.ttl_s
        message = MessageRow(self.top, one.id, one.record, now, one.key, expires_at, headers=one.headers)
        wanted = len(self.consumers) if one.only is None else 1
        self._messages.append(self.top, Kept(message, one.only, wanted, one.history))
        self.bytes += one.size
        if one.key is not None:
            self._by_key.setdefault(one.key, Ordered()).append(self.top, None)
        if expires_at is not None:
            self._mortal[self.top] = None
        if one.only is None:
            self._for_all += 1
        else:
            self.consumers[one.only].passed -= 1
        return self.top

    def kept(self, after: int = 0) -> Iterator[MessageRow]:
        """Return the messages after a position."""
        return (self._messages[position].message for position in self._messages.after(after))

    def older_than(self, time: float) -> list[int]:
        """Return the positions of the messages that got them before a time."""
        return [one.position for one in takewhile(lambda one: one.enqueued_at < time, self.kept())]

    def drop(self, positions: Collection[int]) -> list[ConsumerState]:
        """Remove messages, settled or not; returns the consumers that had not settled some of them."""
        wanting: dict[str, ConsumerState] = {}
        for position in positions:
            kept = self._messages[position]
            for consumer in self._wanting(position, kept):
                self._pass(consumer, position, kept)
                wanting[consumer.name] = consumer
            self._remove(position, kept)
        return [*wanting.values()]

    def purge(self, upto: int) -> int:
        """Remove messages up to a position; returns their number.

        Consumers that had not settled some of them begin a new epoch.
        """
        positions = [one.position for one in takewhile(lambda one: one.position <= upto, self.kept())]
        for consumer in self.drop(positions):
            consumer.epoch = self._next_epoch()
        return len(positions)

    def lose(self, positions: list[int]) -> list[str]:
        """Remove messages because of a limit; returns the names of the consumers that lost some."""
        losers: dict[str, None] = {}
        for position in positions:
            kept = self._messages[position]
            for consumer in self._wanting(position, kept):
                before = consumer.lost
                consumer.lost = (
                    Loss(before.messages + 1, min(before.first, position), max(before.last, position))
                    if before
                    else Loss(1, position, position)
                )
                losers[consumer.name] = None
        self.drop(positions)
        self.dropped += len(positions)
        return sorted(losers)

    def outlived(self, now: float) -> list[int]:
        """Return the positions of messages that have outlived their time to live."""
        mortal = ((position, self._messages[position].message.expires_at) for position in self._mortal)
        return [position for position, expires_at in mortal if expires_at is not None and expires_at <= now]

    def _wanting(self, position: int, kept: Kept) -> list[ConsumerState]:
        return [one for one in self.consumers.values() if self._wants(one, position, kept)]

    def _wants(self, consumer: ConsumerState, position: int, kept: Kept) -> bool:
        if kept.only is not None and kept.only != consumer.name:
            return False
        return position > consumer.frontier or position in consumer.outstanding

    def _pass(self, consumer: ConsumerState, position: int, kept: Kept) -> None:
        """Note that a consumer no longer wants a message."""
        kept.wanted -= 1
        if position > consumer.frontier:
            consumer.passed += 1
            return
        consumer.forget_retry(position)
        consumer.outstanding.pop(position)
        if kept.message.key is not None:
            _discard(consumer.by_key, kept.message.key, position)

    def _remove(self, position: int, kept: Kept) -> None:
        self._messages.pop(position)
        self._mortal.pop(position, None)
        self._settled.pop(position, None)
        self.bytes -= kept.message.size
        if kept.message.key is not None:
            _discard(self._by_key, kept.message.key, position)

    # -- consumers -------------------------------------------------------------------------------------------

    def add_consumer(self, name: str, start: Place, now: float) -> ConsumerState:
        """Return a consumer; if it does not exist, make it."""
        consumer = self.consumers.get(name)
        if consumer is None:
            consumer = self.consumers[name] = ConsumerState(name, self._next_epoch(), self.top, now, self._for_all)
            self._place(consumer, start)
        consumer.active_at = now
        return consumer

    def seek(self, consumer: ConsumerState, place: Place) -> None:
        """Move a consumer to a place, in a new epoch."""
        consumer.epoch = self._next_epoch()
        consumer.lost = None
        unsettled = [*consumer.outstanding.after(0), *self._fresh(consumer, consumer.frontier)]
        for position in unsettled:
            self._pass(consumer, position, self._messages[position])
        consumer.passed = self._for_all
        self._place(consumer, place)
        for position in unsettled:
            self._remove_if_unwanted(position)

    def remove_consumer(self, name: str) -> None:
        """Remove a consumer."""
        consumer = self.consumers.get(name)
        if consumer is None:
            return
        unsettled = [*consumer.outstanding.after(0), *self._fresh(consumer, consumer.frontier)]
        del self.consumers[name]
        self.letters = {number: one for number, one in self.letters.items() if one.consumer != name}
        for number, scheduled in [*self.scheduled.items()]:
            if scheduled.only == name:
                self.bytes -= self.scheduled.pop(number).size
        for position in unsettled:
            kept = self._messages[position]
            kept.wanted -= 1
            if self.consumers or kept.only is not None:
                self._remove_if_unwanted(position)

    def _place(self, consumer: ConsumerState, place: Place) -> None:
        """Place a consumer without outstanding messages."""
        consumer.frontier = min(self._position_before(place), self.top)
        for position in self._fresh(consumer, consumer.frontier):
            self._messages[position].wanted += 1
            consumer.passed -= 1

    def _position_before(self, place: Place) -> int:
        match place:
            case "oldest":
                return (self._messages.first() or self.top + 1) - 1
            case "new":
                return self.top
            case FromPosition(position):
                return max(0, position - 1)
            case FromTime(time):
                return self._messages.before_first(time, lambda kept: kept.message.enqueued_at)

    def _fresh(self, consumer: ConsumerState, after: int) -> Iterator[int]:
        for position in self._messages.after(after):
            if self._messages[position].only in (None, consumer.name):
                yield position

    def _next_epoch(self) -> int:
        self._epochs += 1
        return self._epochs

    def found(self, name: str) -> ConsumerState:
        """Return a consumer.

        Raises:
            StorageError: There is no such consumer.
        """
        consumer = self.consumers.get(name)
        if consumer is None:
            raise StorageError(self.store, f"queue {self.name} has no consumer {name}; {HOW_TO_BEGIN}")
        return consumer

    # -- reading ---------------------------------------------------------------------------------------------

    def unsettled(self, consumer: ConsumerState, after: int) -> Iterator[MessageRow]:
        """Return a consumer's unsettled messages after a position."""
        for position in consumer.outstanding.after(after):
            yield self._seen(consumer, position)
        for position in self._fresh(consumer, max(after, consumer.frontier)):
            yield self._messages[position].message

    def unsettled_with_key(self, consumer: ConsumerState, key: str, after: int) -> Iterator[MessageRow]:
        """Return a consumer's unsettled messages with a key, after a position."""
        for position in consumer.by_key.get(key, Ordered[None]()).after(after):
            yield self._seen(consumer, position)
        for position in self._by_key.get(key, Ordered[None]()).after(max(after, consumer.frontier)):
            if self._messages[position].only in (None, consumer.name):
                yield self._messages[position].message

    def retries(self, consumer: ConsumerState, now: float) -> Iterator[MessageRow]:
        """Return a consumer's messages that failed or were lost and are due again, by time."""
        for _, position in consumer.retrying[: bisect_right(consumer.retrying, (now, maxsize))]:
            yield self._seen(consumer, position)

    def _seen(self, consumer: ConsumerState, position: int) -> MessageRow:
        one = consumer.outstanding[position]
        message = self._messages[position].message
        return message._replace(
            failures=one.failures,
            losses=one.losses,
            retry_at=one.retry_at,
            breaks=one.breaks,
            breaks_since=one.breaks_since,
            deaths=one.deaths,
        )

    # -- what became of them ---------------------------------------------------------------------------------

    def settle(self, consumer: ConsumerState, positions: Iterable[int]) -> None:
        """Settle messages."""
        for kept in self._finish(consumer, positions):
            consumer.settled += 1
            self._remove_if_unwanted(kept.message.position)

    def retry(self, consumer: ConsumerState, attempt: Attempt) -> None:
        """Store the outcome of an attempt."""
        self._advance(consumer, attempt.position)
        one = consumer.outstanding.get(attempt.position)
        if one is None:
            return
        one.history = self._count(consumer, attempt, one)
        one.failures, one.losses = attempt.failures, attempt.losses
        one.breaks, one.breaks_since, one.deaths = attempt.breaks, attempt.breaks_since, attempt.deaths
        consumer.forget_retry(attempt.position)
        one.retry_at = max(attempt.retry_at, AT_ONCE)
        insort(consumer.retrying, (one.retry_at, attempt.position))

    def bury(self, consumer: ConsumerState, attempt: Attempt, number: int) -> bool:
        """Make a message a dead letter; returns whether it was unsettled."""
        self._advance(consumer, attempt.position)
        one = consumer.outstanding.get(attempt.position)
        if one is None:
            return False
        history = self._count(consumer, attempt, one)
        (kept,) = self._finish(consumer, [attempt.position])
        message = kept.message
        self.letters[number] = DeadLetterRow(
            number,
            consumer.name,
            message.position,
            message.id,
            message.record,
            message.key,
            message.enqueued_at,
            attempt.at,
            attempt.reason,
            attempt.failures,
            attempt.losses,
            history,
            message.headers,
            attempt.exception,
        )
        consumer.dead += 1
        self._remove_if_unwanted(message.position)
        return True

    def forget_letters(self, numbers: Iterable[int]) -> None:
        """Remove dead letters."""
        for number in numbers:
            self.consumers[self.letters.pop(number).consumer].dead -= 1

    def _count(self, consumer: ConsumerState, attempt: Attempt, one: Outstanding) -> tuple[HistoryItem, ...]:
        """Count the failures and losses that an attempt adds; returns the history with it."""
        failures = max(0, attempt.failures - one.failures)
        consumer.failed += failures
        consumer.redelivered += failures + max(0, attempt.losses - one.losses)
        history = one.history or self._messages[attempt.position].history
        item = HistoryItem(attempt.at, attempt.kind, attempt.reason, attempt.exception)
        return history if history[-1:] == (item,) else (*history, item)[-MAX_HISTORY:]

    def _advance(self, consumer: ConsumerState, position: int) -> None:
        """Move a consumer's frontier to a message beyond it; the messages between become outstanding."""
        if position <= consumer.frontier or position not in self._messages:
            return
        if self._messages[position].only not in (None, consumer.name):
            return
        for passed in self._fresh(consumer, consumer.frontier):
            if passed > position:
                break
            consumer.passed += 1
            consumer.outstanding.append(passed, Outstanding())
            key = self._messages[passed].message.key
            if key is not None:
                consumer.by_key.setdefault(key, Ordered()).append(passed, None)
        consumer.frontier = position

    def _finish(self, consumer: ConsumerState, positions: Iterable[int]) -> list[Kept]:
        """Settle messages for a consumer; returns those that it had not settled before."""
        finished: list[Kept] = []
        ordered = sorted({*positions})
        # The last one first: the frontier passes the others on its way there.
        for position in reversed(ordered):
            self._advance(consumer, position)
        for position in ordered:
            if position in consumer.outstanding:
                kept = self._messages[position]
                self._pass(consumer, position, kept)
                finished.append(kept)
        return finished

    def _remove_if_unwanted(self, position: int) -> None:
        kept = self._messages.get(position)
        if kept is None or kept.wanted:
            return
        if self.effective_limits.keep_settled_s > 0:
            self._settled.pop(position, None)
            self._settled[position] = None
            kept.settled_at = self._now()
        else:
            self._remove(position, kept)

    def end_kept(self) -> None:
        """Remove the messages that were kept for long enough after all consumers had settled them."""
        oldest = self._now() - self.effective_limits.keep_settled_s
        for position in [*self._settled]:
            kept = self._messages[position]
            if kept.settled_at > oldest:
                continue
            if kept.wanted:
                # A consumer was moved back, or came later. It settles the message again.
                del self._settled[position]
            else:
                self._remove(position, kept)

    def free_kept(self, messages: int, size: int) -> None:
        """Remove as many kept messages as it takes for so many more messages and bytes, the oldest first."""
        for position in sorted(self._settled):
            if messages <= 0 and size <= 0:
                return
            kept = self._messages[position]
            if not kept.wanted:
                self._remove(position, kept)
                messages -= 1
                size -= kept.message.size

    # -- states ----------------------------------------------------------------------------------------------

    def consumer_info(self, consumer: ConsumerState) -> ConsumerRow:
        """Return a consumer's state."""
        waiting = len(consumer.outstanding) + self._for_all - consumer.passed
        first = consumer.outstanding.first() or next(self._fresh(consumer, consumer.frontier), self.top + 1)
        return ConsumerRow(
            consumer.name,
            self.generation,
            consumer.epoch,
            first - 1,
            waiting,
            len(consumer.retrying),
            consumer.settled,
            consumer.failed,
            consumer.redelivered,
            consumer.dead,
            consumer.lost,
            consumer.paused_until,
            consumer.active_at,
        )

    @property
    def keeps_something(self) -> bool:
        """Whether it has messages or dead letters."""
        return bool(self._messages or self.scheduled or self.letters)

    def info(self) -> QueueRow:
        """Return the queue's state."""
        first = self._messages.first()
        return QueueRow(
            self.name,
            self.generation,
            self.top,
            len(self._messages),
            len(self.scheduled),
            self.bytes,
            None if first is None else self._messages[first].message.enqueued_at,
            len(self.consumers),
            len(self.letters),
            self.expired,
            self.dropped,
            self.paused_until,
        )


def _discard(index: dict[str, Ordered[None]], key: str, position: int) -> None:
    positions = index[key]
    positions.pop(position)
    if not positions:
        del index[key]
