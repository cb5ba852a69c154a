"""The writes of one queue, in their order: many enqueues and outcomes as one call, rarer ones as another."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import msgspec

from waypost.errors import QueueFull, StorageError
from waypost.storage.postgres.driver import Connection
from waypost.storage.postgres.lanes import Mark, Write, settle_each
from waypost.storage.postgres.queues.rows import consumer_row, to_json
from waypost.storage.postgres.queues.texts import to_store
from waypost.storage.queue_base import HOW_TO_BEGIN
from waypost.storage.queue_records import Accepted, ConsumerRow, Enqueued, NewMessageRow

__all__ = ["Change", "Enqueue", "Outcome", "QueueWork"]

_WRITE: Final = "SELECT waypost.queue_write_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)"
_CHANGE: Final = "SELECT waypost.queue_changes_1($1, $2, $3, $4, $5, $6)"
_MOST_CHANGES: Final = 100
_SETTLE: Final = "SELECT waypost.queue_settle_1($1, $2, $3, $4, $5, $6)"


@dataclass(slots=True)
class Enqueue:
    """Messages to add.

    Attributes:
        messages: The messages.
        sums: Their sums.
        deduplicate_s: The deduplication window, in seconds; 0 for none.
        size: The bytes that the messages count for.
    """

    messages: Sequence[NewMessageRow]
    sums: Sequence[int]
    deduplicate_s: float
    size: int


@dataclass(slots=True)
class Outcome:
    """The outcome of deliveries to a consumer.

    Attributes:
        kind: ``"settle"``, ``"retry"`` or ``"bury"``.
        consumer: The consumer's name.
        epoch: The epoch in which they were read.
        positions: Those that were settled.
        attempts: Those that were not, encoded.
    """

    kind: str
    consumer: str
    epoch: int
    positions: Collection[int] = ()
    attempts: msgspec.Raw | None = None


@dataclass(slots=True)
class Change:
    """A rarer write.

    Attributes:
        operation: The operation of `queue_change_1`.
        arguments: Its arguments, encoded.
        result: Makes the result of its answer.
    """

    operation: str
    arguments: msgspec.Raw
    result: Callable[[Any], Any]


_Payload: TypeAlias = Enqueue | Outcome | Change


@dataclass(slots=True)
class QueueWork:
    """The calls of one queue's lane; see `LaneWork`.

    Attributes:
        store: The store, as errors name it.
        queue: The queue's name.
        defaults: The limits of queues without their own, as JSON.
        changed: Called after each call, before it is reported, with what it was and the positions of what it has
            added; also ("lost") when nobody knows whether it was done.
    """

    store: str
    queue: str
    defaults: str
    changed: Callable[[str, list[int]], None]

    def split(self, writes: Sequence[Write[Any]]) -> int:
        """Let rarer writes in a row go together, and all others."""
        are_rare = isinstance(writes[0].payload, Change)
        for number, write in enumerate(writes):
            if isinstance(write.payload, Change) != are_rare or (are_rare and number == _MOST_CHANGES):
                return number
        return len(writes)

    async def send(self, connection: Connection, writes: Sequence[Write[Any]], mark: Mark) -> Any:
        """Make one call."""
        if isinstance(writes[0].payload, Change):
            changes = [(write.payload.operation, write.payload.arguments) for write in writes]
            return await connection.value(_CHANGE, self.queue, *mark, self.defaults, to_json(changes))
        outcomes, _ = _merge(writes)
        return await connection.value(_WRITE, self.queue, *mark, self.defaults, to_json(outcomes), *_arrays(writes))

    async def settle(self, connection: Connection, writes: Sequence[Write[Any]], mark: Mark, by: Mark) -> Any | None:
        """Find out whether a call was done."""
        return await connection.value(_SETTLE, self.queue, *mark, by.incarnation, by.batch)

    def finish(self, writes: Sequence[Write[Any]], answer: Any, mark: Mark) -> None:
        """Report the results in the order of the writes."""
        answered = msgspec.json.decode(answer)
        if isinstance(writes[0].payload, Change):
            for write in writes:
                self.changed(write.payload.operation, [])
            settle_each(writes, [self._changed(*one) for one in zip(writes, answered, strict=True)])
            return
        results, positions = self._results(writes, answered)
        self.changed("write", positions)
        settle_each(writes, results)

    def lose(self, mark: Mark) -> None:
        """Note that nobody knows whether a call was done: what it may have added is to be looked for."""
        self.changed("lost", [])

    def _changed(self, write: Write[Any], answered: dict[str, Any]) -> Any:
        return self._unknown(answered) if "unknown" in answered else write.payload.result(answered["result"])

    def _results(self, writes: Sequence[Write[Any]], answered: dict[str, Any]) -> tuple[list[Any], list[int]]:
        _, places = _merge(writes)
        states = [self._state(values) for values in answered["outcomes"]]
        results: list[Any] = []
        positions: list[int] = []
        position, slow = answered["first"], iter(answered["results"])
        for write, place in zip(writes, places, strict=True):
            payload: _Payload = write.payload
            if not isinstance(payload, Enqueue):
                results.append(states[place])
            elif position is None:
                results.append(self._enqueued(payload, next(slow), positions))
            else:
                accepted = tuple([Accepted(one.id, at, False) for at, one in enumerate(payload.messages, position)])
                positions += range(position, position + len(accepted))
                position += len(accepted)
                results.append(Enqueued(accepted))
        return results, positions

    def _enqueued(self, request: Enqueue, result: dict[str, Any], positions: list[int]) -> Enqueued | QueueFull:
        if "full" in result:
            return QueueFull(self.store, self.queue, *result["full"])
        found = zip(request.messages, result["positions"], result["duplicates"], strict=True)
        accepted = tuple([Accepted(one.id, position, duplicate) for one, position, duplicate in found])
        positions += [one.position for one in accepted if one.position and not one.duplicate]
        due = result["due"]
        return Enqueued(accepted, tuple(result["losers"]), None if due is None else float(due))

    def _state(self, values: Any) -> ConsumerRow | StorageError:
        return self._unknown(values) if isinstance(values, dict) else consumer_row(values)

    def _unknown(self, answered: dict[str, Any]) -> StorageError:
        problem = f"queue {self.queue} has no consumer {answered['unknown']}; {HOW_TO_BEGIN}"
        return StorageError(self.store, problem)


def _merge(writes: Sequence[Write[Any]]) -> tuple[list[dict[str, object]], list[int]]:
    """Return the outcomes of writes, settlements of one consumer in a row as one, and where each write's is."""
    outcomes: list[dict[str, object]] = []
    places: list[int] = []
    last: tuple[str, int] | None = None
    positions: list[int] = []
    for write in writes:
        payload: _Payload = write.payload
        if isinstance(payload, Outcome):
            if payload.kind != "settle":
                last = None
                outcomes.append(
                    {"consumer": payload.consumer, "epoch": payload.epoch, payload.kind: payload.attempts}
                )
            elif last == (payload.consumer, payload.epoch):
                positions += payload.positions
            else:
                last = payload.consumer, payload.epoch
                positions = [*payload.positions]
                outcomes.append({"consumer": payload.consumer, "epoch": payload.epoch, "settle": positions})
        places.append(len(outcomes) - 1)
    return outcomes, places


@dataclass(slots=True)
class _Columns:
    """The messages of several requests, one array for each of their values."""

    bounds: list[int] = field(default_factory=lambda: [1])
    size: int = 0
    windows: list[float] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    records: list[bytes] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    ttls: list[float | None] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    headers: list[str | None] = field(default_factory=list)
    sums: list[int] = field(default_factory=list)

    def add(self, request: Enqueue) -> None:
        for message_id, record, key, ttl_s, delay_s, headers in request.messages:
            self.windows.append(request.deduplicate_s)
            self.ids.append(to_store(message_id))
            self.records.append(record)
            self.keys.append(None if key is None else to_store(key))
            self.ttls.append(ttl_s)
            self.delays.append(delay_s)
            self.headers.append(None if headers is None else to_store(headers))
        self.sums += request.sums
        self.size += request.size
        self.bounds.append(len(self.ids) + 1)


def _arrays(writes: Sequence[Write[Any]]) -> tuple[object, ...]:
    """Return the messages of writes as `queue_write_1` takes them, from their bounds on."""
    columns = _Columns()
    for write in writes:
        if isinstance(write.payload, Enqueue):
            columns.add(write.payload)
    if not columns.ids:
        return (None,) * 10
    return (
        columns.bounds,
        columns.size,
        columns.windows if any(columns.windows) else None,
        columns.ids,
        columns.records,
        columns.keys,
        columns.ttls,
        columns.delays if any(columns.delays) else None,
        columns.headers,
        columns.sums,
    )
