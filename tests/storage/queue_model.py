"""A queue as plain lists and sets: what the storage's queues must be indistinguishable from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from waypost.storage.queue_base import AT_ONCE, DEAD_LETTER_S, MAX_HISTORY
from waypost.storage.queue_records import (
    Accepted,
    Attempt,
    ConsumerRow,
    DeadLetterFilter,
    DeadLetterRow,
    FromPosition,
    FromTime,
    HistoryItem,
    Loss,
    MessageRow,
    NewMessageRow,
    Place,
    QueueLimits,
    QueueRow,
)

__all__ = ["QueueModel", "page"]


@dataclass
class _Delayed:
    message: NewMessageRow
    due_at: float
    number: int
    only: str | None = None
    history: tuple[HistoryItem, ...] = ()


@dataclass
class _Consumer:
    # What it has not settled, as it sees it, with its attempts.
    unsettled: dict[int, tuple[MessageRow, tuple[HistoryItem, ...]]] = field(default_factory=dict)
    active_at: float = 0.0
    settled: int = 0
    failed: int = 0
    redelivered: int = 0
    lost: Loss | None = None
    paused_until: float | None = None


class QueueModel:
    """One queue.

    Attributes:
        letters: Its dead letters; their numbers only tell their order.
    """

    def __init__(self, limits: QueueLimits) -> None:
        self.limits = limits
        self.top = 0
        self.kept: list[tuple[MessageRow, str | None, tuple[HistoryItem, ...]]] = []
        self.delayed: list[_Delayed] = []
        self.consumers: dict[str, _Consumer] = {}
        self.letters: list[DeadLetterRow] = []
        self.accepted: dict[str, tuple[int, float, float]] = {}
        self.expired = 0
        self.dropped = 0
        self._numbers = 0

    # -- messages --------------------------------------------------------------------------------------------

    @property
    def bytes(self) -> int:
        kept = sum(len(message.record) for message, _, _ in self.kept)
        return kept + sum(len(one.message.record) for one in self.delayed)

    def enqueue(self, messages: list[NewMessageRow], window_s: float, now: float) -> list[Accepted] | None:
        """Add messages; ``None`` if they do not fit."""
        fresh: list[NewMessageRow] = []
        for message in messages:
            repeated = window_s > 0 and message.id in {one.id for one in fresh}
            if not repeated and not self._is_duplicate(message.id, window_s, now):
                fresh.append(message)
        if not self._make_room(fresh):
            return None
        accepted: list[Accepted] = []
        for message in messages:
            if self._is_duplicate(message.id, window_s, now):
                accepted.append(Accepted(message.id, max(0, self.accepted[message.id][0]), duplicate=True))
                continue
            if message.delay_s > 0:
                self._numbers += 1
                self.delayed.append(_Delayed(message, now + message.delay_s, self._numbers))
                position = -self._numbers
            else:
                position = self._append(_Delayed(message, now, 0), now)
            if window_s > 0:
                self.accepted[message.id] = (position, now, now + window_s)
            accepted.append(Accepted(message.id, max(0, position), duplicate=False))
        return accepted

    def _is_duplicate(self, message_id: str, window_s: float, now: float) -> bool:
        _, accepted_at, until = self.accepted.get(message_id, (0, 0.0, float("-inf")))
        return window_s > 0 and now < min(until, accepted_at + window_s)

    def _make_room(self, fresh: list[NewMessageRow]) -> bool:
        needed = sum(len(message.record) for message in fresh)
        positions = [message.position for message, _, _ in self.kept]
        count, size = len(self.kept) + len(self.delayed), self.bytes
        dropping: list[int] = []
        while fresh and (count + len(fresh) > self.limits.max_messages or size + needed > self.limits.max_bytes):
            if self.limits.overflow == "refuse" or len(dropping) == len(positions):
                return False
            message, _, _ = self.kept[len(dropping)]
            dropping.append(message.position)
            count, size = count - 1, size - len(message.record)
        self.lose(dropping)
        return True

    def _append(self, one: _Delayed, now: float) -> int:
        self.top += 1
        new = one.message
        expires_at = None if new.ttl_s is None else one.due_at + new.ttl_s
        message = MessageRow(self.top, new.id, new.record, now, new.key, expires_at)
        self.kept.append((message, one.only, one.history))
        for name, consumer in self.consumers.items():
            if one.only in (None, name):
                consumer.unsettled[self.top] = (message, one.history)
        return self.top

    def release(self, now: float) -> float | None:
        """Let what is due be due; returns when the next one is."""
        self.delayed.sort(key=lambda one: (one.due_at, one.number))
        while self.delayed and self.delayed[0].due_at <= now:
            one = self.delayed.pop(0)
            position = self._append(one, now)
            seen = self.accepted.get(one.message.id)
            if one.only is None and seen is not None and seen[0] == -one.number:
                self.accepted[one.message.id] = (position, *seen[1:])
        return self.delayed[0].due_at if self.delayed else None

    def lose(self, positions: list[int]) -> None:
        """End messages, for each consumer to be told."""
        for consumer in self.consumers.values():
            missed = [position for position in positions if position in consumer.unsettled]
            if missed:
                before = consumer.lost or Loss(0, missed[0], missed[-1])
                first, last = min(before.first, missed[0]), max(before.last, missed[-1])
                consumer.lost = Loss(before.messages + len(missed), first, last)
        self.dropped += len(positions)
        self._remove(positions)

    def trim(self, now: float) -> None:
        """End what is too old."""
        self.end_outlived(now)
        self.end_aged(now)
        self.letters = [one for one in self.letters if one.died_at >= now - DEAD_LETTER_S]
        self.accepted = {one: seen for one, seen in self.accepted.items() if now < seen[2]}

    def end_outlived(self, now: float) -> int:
        """End what has outlived its time to live; returns how many."""
        outlived = [m.position for m, _, _ in self.kept if m.expires_at is not None and m.expires_at <= now]
        self.expired += len(outlived)
        self._remove(outlived)
        return len(outlived)

    def end_aged(self, now: float) -> int:
        """End what is too old; returns how many."""
        aged: list[int] = []
        for message, _, _ in self.kept:
            if message.enqueued_at >= now - self.limits.max_age_s:
                break
            aged.append(message.position)
        self.lose(aged)
        return len(aged)

    def purge(self, upto: int | None) -> int:
        """Remove messages, settled or not."""
        positions = [m.position for m, _, _ in self.kept if upto is None or m.position <= upto]
        self._remove(positions)
        delayed = len(self.delayed) if upto is None else 0
        if upto is None:
            self.delayed = []
        return len(positions) + delayed

    def _remove(self, positions: Iterable[int]) -> None:
        gone = {*positions}
        self.kept = [one for one in self.kept if one[0].position not in gone]
        for consumer in self.consumers.values():
            for position in gone:
                consumer.unsettled.pop(position, None)

    def _remove_unwanted(self, positions: Iterable[int]) -> None:
        self._remove(p for p in positions if not any(p in one.unsettled for one in self.consumers.values()))

    # -- consumers -------------------------------------------------------------------------------------------

    def add_consumer(self, name: str, start: Place, now: float) -> None:
        if name not in self.consumers:
            self.consumers[name] = _Consumer()
            self._place(name, start)
        self.consumers[name].active_at = now

    def seek(self, name: str, place: Place) -> None:
        former = [*self.consumers[name].unsettled]
        self.consumers[name].lost = None
        self._place(name, place)
        self._remove_unwanted(former)

    def _place(self, name: str, place: Place) -> None:
        match place:
            case "oldest":
                first = 0
            case "new":
                first = self.top + 1
            case FromPosition(position):
                first = position
            case FromTime(time):
                later = [m.position for m, _, _ in self.kept if m.enqueued_at >= time]
                first = later[0] if later else self.top + 1
        self.consumers[name].unsettled = {
            message.position: (message, history)
            for message, only, history in self.kept
            if message.position >= first and only in (None, name)
        }

    def remove_consumer(self, name: str) -> None:
        if name in self.consumers:
            unsettled = {*self.consumers.pop(name).unsettled}
            own = {message.position for message, only, _ in self.kept if only == name}
            self.letters = [one for one in self.letters if one.consumer != name]
            self.delayed = [one for one in self.delayed if one.only != name]
            self._remove_unwanted(unsettled if self.consumers else own)

    # -- what became of them ---------------------------------------------------------------------------------

    def settle(self, name: str, positions: Iterable[int], now: float) -> None:
        consumer = self.consumers[name]
        consumer.active_at = now
        done = [position for position in {*positions} if consumer.unsettled.pop(position, None)]
        consumer.settled += len(done)
        self._remove_unwanted(done)

    def retry(self, name: str, attempt: Attempt) -> None:
        consumer = self.consumers[name]
        if attempt.position in consumer.unsettled:
            message, history = self._count(consumer, attempt)
            consumer.unsettled[attempt.position] = (message, history)

    def bury(self, name: str, attempt: Attempt) -> None:
        consumer = self.consumers[name]
        if attempt.position not in consumer.unsettled:
            return
        message, history = self._count(consumer, attempt)
        counts = (attempt.failures, attempt.losses, history)
        said = (message.enqueued_at, attempt.at, attempt.reason)
        letter = DeadLetterRow(
            0,
            name,
            message.position,
            message.id,
            message.record,
            message.key,
            *said,
            *counts,
            exception=attempt.exception,
        )
        self.letters.append(letter)
        del consumer.unsettled[attempt.position]
        self._remove_unwanted([attempt.position])

    def _count(self, consumer: _Consumer, attempt: Attempt) -> tuple[MessageRow, tuple[HistoryItem, ...]]:
        message, history = consumer.unsettled[attempt.position]
        failed = max(0, attempt.failures - message.failures)
        consumer.failed += failed
        consumer.redelivered += failed + max(0, attempt.losses - message.losses)
        item = HistoryItem(attempt.at, attempt.kind, attempt.reason, attempt.exception)
        if history[-1:] != (item,):
            history = (*history, item)[-MAX_HISTORY:]
        retry_at = max(attempt.retry_at, AT_ONCE)
        counted = message._replace(
            failures=attempt.failures,
            losses=attempt.losses,
            retry_at=retry_at,
            breaks=attempt.breaks,
            breaks_since=attempt.breaks_since,
            deaths=attempt.deaths,
        )
        return counted, history

    def matching(self, wanted: DeadLetterFilter) -> list[DeadLetterRow]:
        return [
            one
            for one in self.letters
            if wanted.consumer in (None, one.consumer)
            and wanted.key in (None, one.key)
            and (wanted.reason or "") in one.reason
        ]

    def redrive(self, wanted: DeadLetterFilter, most: int, spacing_s: float, first_at: float, now: float) -> int:
        letters = self.matching(wanted)[:most]
        self.discard(wanted, most)
        for index, one in enumerate(letters):
            due_at = first_at + index * spacing_s
            self._numbers += 1
            again = _Delayed(
                NewMessageRow(one.id, one.record, one.key), due_at, self._numbers, one.consumer, one.history
            )
            if due_at <= now:
                self._append(again, now)
            else:
                self.delayed.append(again)
        return len(letters)

    def discard(self, wanted: DeadLetterFilter, most: int) -> int:
        letters = self.matching(wanted)[:most]
        self.letters = [one for one in self.letters if not any(one is gone for gone in letters)]
        return len(letters)

    # -- states ----------------------------------------------------------------------------------------------

    def unsettled(self, name: str, now: float) -> list[MessageRow]:
        found = [message for _, (message, _) in sorted(self.consumers[name].unsettled.items())]
        return [one for one in found if one.expires_at is None or one.expires_at > now]

    def consumer_info(self, name: str, generation: str, epoch: int) -> ConsumerRow:
        one = self.consumers[name]
        return ConsumerRow(
            name,
            generation,
            epoch,
            min(one.unsettled, default=self.top + 1) - 1,
            len(one.unsettled),
            sum(message.retry_at > 0 for message, _ in one.unsettled.values()),
            one.settled,
            one.failed,
            one.redelivered,
            sum(letter.consumer == name for letter in self.letters),
            one.lost,
            one.paused_until,
            one.active_at,
        )

    def info(self, name: str, generation: str) -> QueueRow:
        return QueueRow(
            name,
            generation,
            self.top,
            len(self.kept),
            len(self.delayed),
            self.bytes,
            self.kept[0][0].enqueued_at if self.kept else None,
            len(self.consumers),
            len(self.letters),
            self.expired,
            self.dropped,
        )


def page(messages: Iterable[MessageRow], most: int, max_bytes: int) -> list[MessageRow]:
    """Return the first ones within limits."""
    found: list[MessageRow] = []
    for message in messages:
        if len(found) == most or (found and sum(len(one.record) for one in [*found, message]) > max_bytes):
            break
        found.append(message)
    return found
