"""Queues of the pure engine: the plain lists of `tests.storage.queue_model`, with nodes, owners and lost answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.storage.queue_model import QueueModel, page
from waypost.storage.queue_records import (
    Attempt,
    ConsumerRow,
    DeadLetterFilter,
    DeadLetterRow,
    FromPosition,
    FromTime,
    MessageRow,
    NewMessageRow,
    Place,
    QueueLimits,
    QueueRow,
    Retries,
)

__all__ = ["Answer", "Full", "Messages", "Queue", "Request", "Unknown", "new_queue"]


class Messages(NamedTuple):
    """What became of the messages of a request: a position for each, 0 for one that is not due, or was there."""

    positions: list[int]
    duplicates: list[bool]
    losers: list[str]
    due: float | None


class Full(NamedTuple):
    """A request that was refused as a whole: what the queue has, and its limits."""

    messages: int
    bytes: int
    max_messages: int
    max_bytes: int


class Unknown(NamedTuple):
    """There is no such consumer."""

    name: str


class Request(NamedTuple):
    """Messages that are to be added, all or none, with their deduplication window."""

    messages: list[NewMessageRow]
    window_s: float


class Answer(NamedTuple):
    """What a write returned: the states of consumers, and what became of messages."""

    now: float
    outcomes: list[ConsumerRow | Unknown]
    results: list[Messages | Full]


@dataclass(slots=True)
class Queue:
    """A queue.

    Attributes:
        name: Its name.
        model: Its messages and consumers.
        generation: The name of its history; "" until it is known.
        base: The epoch before that of its first consumer; ``None`` until it is known.
        epochs: How many epochs have begun.
        epoch: Which of them is that of a consumer.
        written: The newest incarnation of each node that has written to it.
    """

    name: str
    model: QueueModel
    generation: str = ""
    base: int | None = None
    epochs: int = 0
    epoch: dict[str, int] = field(default_factory=dict)
    written: dict[int, int] = field(default_factory=dict)

    def copy(self) -> Queue:
        """Return a queue that goes its own way."""
        return deepcopy(self)

    # -- states ----------------------------------------------------------------------------------------------

    def learn(self, name: str, came: ConsumerRow) -> None:
        """Learn from the answer of a write what the engine has drawn."""
        self.generation = self.generation or came.generation
        if self.base is None:
            self.base = came.epoch - self.epoch[name]

    def consumer(self, name: str) -> ConsumerRow | Unknown:
        """Return a consumer's state."""
        if name not in self.model.consumers:
            return Unknown(name)
        return self.model.consumer_info(name, self.generation, (self.base or 0) + self.epoch[name])

    def info(self) -> QueueRow:
        """Return the queue's state."""
        return self.model.info(self.name, self.generation)

    # -- writes ----------------------------------------------------------------------------------------------

    def enqueue(self, request: Request, now: float) -> Messages | Full:
        """Add messages, all or none."""
        lost = {name: one.lost for name, one in self.model.consumers.items()}
        accepted = self.model.enqueue(request.messages, request.window_s, now)
        if accepted is None:
            limits = self.model.limits
            kept = len(self.model.kept) + len(self.model.delayed)
            return Full(kept, self.model.bytes, limits.max_messages, limits.max_bytes)
        dues = [
            now + message.delay_s
            for message, one in zip(request.messages, accepted, strict=True)
            if not one.duplicate and message.delay_s > 0
        ]
        losers = sorted(name for name, one in self.model.consumers.items() if one.lost != lost[name])
        positions = [one.position for one in accepted]
        return Messages(positions, [one.duplicate for one in accepted], losers, min(dues, default=None))

    def end(self, consumer: str, outcome: Mapping[str, Any], is_ours: bool, now: float) -> ConsumerRow | Unknown:
        """Let messages of a consumer be settled, tried again or given up; returns the consumer's state."""
        if consumer not in self.model.consumers:
            return Unknown(consumer)
        if is_ours and outcome["epoch"] == (self.base or 0) + self.epoch[consumer]:
            if "settle" in outcome:
                self.model.settle(consumer, outcome["settle"], now)
            for one in outcome.get("retry", ()):
                self.model.retry(consumer, _attempt(one))
            for one in outcome.get("bury", ()):
                self.model.bury(consumer, _attempt(one))
        return self.consumer(consumer)

    def change(self, operation: str, arguments: Mapping[str, Any], now: float) -> Any:
        """Do a rare write; returns its result."""
        consumer = arguments.get("consumer")
        may_be_new = operation in ("add_consumer", "remove_consumer")
        if consumer is not None and consumer not in self.model.consumers and not may_be_new:
            return Unknown(consumer)
        return _CHANGES[operation](self, arguments, now)

    def begin_epoch(self, consumer: str) -> None:
        """Let earlier acks of a consumer not count any more."""
        self.epochs += 1
        self.epoch[consumer] = self.epochs

    def lose_holds(self, holds: Sequence[tuple[str, int, int]], now: float) -> None:
        """Count a delivery by a death for each message that a dead node held: consumer, epoch and position."""
        for consumer, epoch, position in sorted({*holds}):
            if consumer not in self.model.consumers or self.epoch[consumer] != epoch:
                continue
            found = self.model.consumers[consumer].unsettled.get(position)
            one = found[0] if found else MessageRow(position, "", b"", 0.0)
            attempt = Attempt(
                position,
                one.failures,
                one.losses + 1,
                "lost",
                "the process that had it in hand ended",
                now,
                1.0,
                one.breaks,
                one.breaks_since,
                one.deaths + 1,
            )
            self.model.retry(consumer, attempt)

    # -- time ------------------------------------------------------------------------------------------------

    def release(self, now: float) -> int:
        """Let what is due have its position; returns how many."""
        before = len(self.model.delayed)
        self.model.release(now)
        return before - len(self.model.delayed)

    def has_due(self, now: float) -> bool:
        """Whether anything is due."""
        return any(one.due_at <= now for one in self.model.delayed)

    def trim(self, kind: str, now: float) -> int:
        """End what is too old, or has outlived its time to live; returns how many."""
        if kind == "outlived":
            return self.model.end_outlived(now)
        assert kind == "aged", f"messages that are kept for a while ({kind}) are not played"
        return self.model.end_aged(now)

    # -- reads -----------------------------------------------------------------------------------------------

    def fetch(self, consumer: str, after: int, most: int, size: int, now: float) -> list[MessageRow]:
        """Return what a consumer has not settled after a position."""
        return page([one for one in self.model.unsettled(consumer, now) if one.position > after], most, size)

    def fetch_key(
        self, consumer: str, key: str, after: int, upto: int, most: int, size: int, now: float
    ) -> list[MessageRow]:
        """Return the same, with a key and up to a position."""
        found = self.model.unsettled(consumer, now)
        return page([one for one in found if one.key == key and after < one.position <= upto], most, size)

    def fetch_retries(
        self, consumer: str, upto: int, held: Sequence[int], most: int, size: int, now: float
    ) -> Retries:
        """Return what is due again."""
        found = [
            one
            for one in self.model.unsettled(consumer, now)
            if 0 < one.retry_at <= now and one.position <= upto and one.position not in held
        ]
        found.sort(key=lambda one: (one.retry_at, one.position))
        later = [one.retry_at for one, _ in self.model.consumers[consumer].unsettled.values() if one.retry_at > now]
        return Retries(tuple(page(found, most, size)), min(later, default=None))

    def peek(self, after: int, most: int, size: int) -> list[MessageRow]:
        """Return messages as the queue keeps them."""
        return page([one for one, _, _ in self.model.kept if one.position > after], most, size)

    def letters(self, wanted: DeadLetterFilter, most: int) -> list[DeadLetterRow]:
        """Return dead letters; their numbers are 0."""
        return self.model.matching(wanted)[:most]


def _attempt(told: Mapping[str, Any]) -> Attempt:
    at, kind, reason, *exception = told["item"]
    counted = {name: told[name] for name in ("failures", "losses", "retry_at", "breaks", "breaks_since", "deaths")}
    return Attempt(
        position=told["position"], kind=kind, reason=reason, at=at, exception=exception[0] if exception else None,
        **counted,
    )  # fmt: skip


def _place(told: Mapping[str, Any]) -> Place:
    if "position" in told:
        return FromPosition(told["position"])
    return FromTime(float(told["time"])) if "time" in told else told["at"]


def _add_consumer(queue: Queue, arguments: Mapping[str, Any], now: float) -> Any:
    name = arguments["consumer"]
    if name not in queue.model.consumers:
        queue.begin_epoch(name)
    queue.model.add_consumer(name, _place(arguments["place"]), now)
    return queue.consumer(name)


def _seek(queue: Queue, arguments: Mapping[str, Any], _: float) -> Any:
    queue.begin_epoch(arguments["consumer"])
    queue.model.seek(arguments["consumer"], _place(arguments["place"]))
    return queue.consumer(arguments["consumer"])


def _pause(queue: Queue, arguments: Mapping[str, Any], _: float) -> Any:
    until = arguments["until"]
    queue.model.consumers[arguments["consumer"]].paused_until = None if until is None else float(until)


def _forget_loss(queue: Queue, arguments: Mapping[str, Any], _: float) -> Any:
    one = queue.model.consumers[arguments["consumer"]]
    if one.lost is not None and one.lost.last <= arguments["upto"]:
        one.lost = None
    return queue.consumer(arguments["consumer"])


def _purge(queue: Queue, arguments: Mapping[str, Any], _: float) -> Any:
    before = {name: len(one.unsettled) for name, one in queue.model.consumers.items()}
    ended = queue.model.purge(arguments["upto"])
    for name in sorted(before):
        if len(queue.model.consumers[name].unsettled) < before[name]:
            queue.begin_epoch(name)
    return ended


def _cancel(queue: Queue, arguments: Mapping[str, Any], _: float) -> Any:
    model, message_id = queue.model, arguments["id"]
    gone = [one for one in model.delayed if one.message.id == message_id and one.only is None]
    model.delayed = [one for one in model.delayed if one not in gone]
    if model.accepted.get(message_id, (0,))[0] < 0:
        del model.accepted[message_id]
    return len(gone)


def _redrive(queue: Queue, arguments: Mapping[str, Any], now: float) -> Any:
    first_at, spacing_s = arguments["first_at"], arguments["spacing_s"]
    wanted, most = DeadLetterFilter(**arguments["filter"]), arguments["most"]
    letters = queue.model.redrive(wanted, most, spacing_s, first_at, now)
    later = [first_at + n * spacing_s for n in range(letters) if first_at + n * spacing_s > now]
    return letters, min(later, default=None)


def _discard(queue: Queue, arguments: Mapping[str, Any], _: float) -> Any:
    return queue.model.discard(DeadLetterFilter(**arguments["filter"]), arguments["most"])


_CHANGES: Mapping[str, Callable[[Queue, Mapping[str, Any], float], Any]] = {
    "add_consumer": _add_consumer,
    "seek": _seek,
    "remove_consumer": lambda queue, arguments, _: queue.model.remove_consumer(arguments["consumer"]),
    "pause": _pause,
    "wait": lambda *_: None,
    "forget_loss": _forget_loss,
    "purge": _purge,
    "cancel": _cancel,
    "redrive": _redrive,
    "discard_dead": _discard,
}


def new_queue(name: str, limits: QueueLimits) -> Queue:
    """Return a queue without anything."""
    return Queue(name, QueueModel(limits))
