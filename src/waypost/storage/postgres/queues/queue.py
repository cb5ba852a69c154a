"""A handle on one queue of a `PostgresStore`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Final, TypeVar

import msgspec

from waypost.errors import ConfigurationError, StorageError
from waypost.storage.postgres.driver import Connection, Refusal, Row
from waypost.storage.postgres.lanes import Write
from waypost.storage.postgres.queues.rows import (
    attempt_values,
    configuration_of,
    configured_values,
    consumer_row,
    dead_letter,
    encoded,
    filter_values,
    message_row,
    message_sum,
    place_values,
    to_json,
)
from waypost.storage.postgres.queues.shared import SharedQueues
from waypost.storage.postgres.queues.texts import to_store
from waypost.storage.postgres.queues.writing import Change, Enqueue, Outcome
from waypost.storage.queue_base import HOW_TO_BEGIN
from waypost.storage.queue_records import (
    Attempt,
    Configuration,
    ConsumerRow,
    DeadLetterFilter,
    DeadLetterRow,
    Enqueued,
    MessageRow,
    NewMessageRow,
    Place,
    QueueLimits,
    QueueRow,
    Redriven,
    Retries,
)

__all__ = ["CONFIGURED", "PostgresQueue"]

_T = TypeVar("_T")

_NO_CONSUMER: Final = "WP005"
_LARGEST_RECORD_BYTES: Final = 256 << 20
# The largest number of rows that PostgreSQL's LIMIT is asked for.
_MOST: Final = (1 << 62) - 1

CONFIGURED: Final = (
    "SELECT name, settings, max_messages, max_bytes, max_age_s, overflow, keep_settled_s FROM waypost.queue"
    " WHERE settings IS NOT NULL AND name IS NOT NULL"
)
"""Reads the configurations of all queues that have one."""

_FETCH: Final = "SELECT * FROM waypost.queue_fetch_1($1, $2, $3, $4, $5)"
_FETCH_KEY: Final = "SELECT * FROM waypost.queue_fetch_key_1($1, $2, $3, $4, $5, $6, $7)"
_FETCH_RETRIES: Final = "SELECT * FROM waypost.queue_fetch_retries_1($1, $2, $3, $4, $5, $6)"
_PEEK: Final = "SELECT * FROM waypost.queue_peek_1($1, $2, $3, $4)"
_INFO: Final = "SELECT * FROM waypost.queue_info_1($1)"
_CONSUMERS: Final = "SELECT waypost.consumers_1($1, $2, $3, $4)"
_LETTERS: Final = """
    SELECT d.*, a.name AS consumer_name FROM waypost.queue q
    CROSS JOIN LATERAL waypost.dead_letters_1(q.id, $2, $3, NULL, $4) d JOIN waypost.consumer a ON a.id = d.consumer
    WHERE q.name = $1 ORDER BY d.number
"""


class PostgresQueue:
    """A handle on one queue of a `PostgresStore`; see `waypost.storage.queue_base.StoredQueue`.

    Args:
        name: The queue's name.
        shared: What all queues of the store share.
    """

    __slots__ = ("_shared", "name")

    def __init__(self, name: str, shared: SharedQueues) -> None:
        self.name = name
        self._shared = shared

    # -- messages --------------------------------------------------------------------------------------------

    def enqueue(
        self, messages: Sequence[NewMessageRow], *, deduplicate_s: float, on_commit: Callable[[Enqueued], None]
    ) -> Awaitable[Enqueued]:
        """Add messages, all or none."""
        # No coroutine: there are many of these, and each layer is felt.
        # What can't be encoded is raised here, and fails nothing that goes along with it.
        size, sums = 0, []
        for message in messages:
            size += len(message.record) if message.headers is None else message.size
            sums.append(message_sum(message.id, message.key, message.headers, message.record))
            self._check(message)
        operation = f"add {len(messages)} messages to queue {self.name}"
        ids = tuple([message.id for message in messages])
        return self._add(operation, Enqueue(messages, sums, deduplicate_s, size), on_commit, size, ids)

    def publish(self, connection: Any, message: NewMessageRow, *, deduplicate_s: float) -> None:
        """Refuse it: `waypost.publish` and SQL do that on PostgreSQL, without this process."""
        expected = f"waypost.publish(connection, {self.name!r}, …), which does this on PostgreSQL"
        raise ConfigurationError("connection", type(connection).__name__, expected)

    async def peek(self, *, after: int, max_messages: int, max_bytes: int) -> list[MessageRow]:
        """Read messages as the queue keeps them."""
        rows = await self._rows(_PEEK, self.name, after, min(max_messages, _MOST), max_bytes)
        return [*map(message_row, rows)]

    async def purge(self, *, upto: int | None = None) -> int:
        """Remove messages, settled or not."""
        return await self._change("purge", {"upto": upto}, int)

    async def cancel(self, message_id: str) -> int:
        """Remove the messages with an id that are not due yet."""
        return await self._change("cancel", {"id": to_store(message_id)}, int)

    async def configure(self, limits: QueueLimits | None, settings: bytes) -> None:
        """Keep limits and settings, and drop with the same commit what does not fit into the limits any more."""
        await self._change("configure", configured_values(limits, settings), _ignore)

    async def configuration(self) -> Configuration:
        """Return what was configured."""
        for row in await self._rows(f"{CONFIGURED} AND name = $1", self.name):
            return configuration_of(row)
        return Configuration(self.name, None, b"")

    async def delete(self) -> None:
        """Remove the queue: it is gone with one commit, and what it kept is removed in steps."""
        await self._change("delete", {}, _ignore)

    async def info(self) -> QueueRow:
        """Return the queue's state."""
        for row in await self._rows(_INFO, self.name):
            return QueueRow(*row)
        return QueueRow(self.name)

    # -- consumers -------------------------------------------------------------------------------------------

    async def add_consumer(self, consumer: str, *, start: Place = "oldest") -> ConsumerRow:
        """Return a consumer, made if need be."""
        arguments: dict[str, object] = {"consumer": consumer, "place": place_values(start)}
        return await self._change("add_consumer", arguments, consumer_row)

    async def consumer(self, consumer: str) -> ConsumerRow:
        """Return a consumer's state."""
        for row in await self._rows(_CONSUMERS, self.name, consumer, "", 1):
            return consumer_row(self._shared.decode(row[0]))
        raise self._unknown(consumer)

    async def consumers(self, *, after: str = "", max_consumers: int = 1000) -> list[ConsumerRow]:
        """Return the states of consumers by name."""
        rows = await self._rows(_CONSUMERS, self.name, None, after, min(max_consumers, _MOST))
        return [consumer_row(self._shared.decode(row[0])) for row in rows]

    async def seek(self, consumer: str, place: Place) -> ConsumerRow:
        """Move a consumer to a place."""
        arguments: dict[str, object] = {"consumer": consumer, "place": place_values(place)}
        return await self._change("seek", arguments, consumer_row)

    async def pause(self, consumer: str | None, *, until: float) -> None:
        """Note that a consumer or the queue is paused."""
        paused_until = str(until) if until > self._shared.engine.clock.wall() else None
        arguments: dict[str, object] = {"until": paused_until}
        if consumer is None:
            await self._change("pause", arguments, _ignore)
        else:
            await self._change("pause", {**arguments, "consumer": consumer}, _ignore)

    async def remove_consumer(self, consumer: str) -> None:
        """Forget a consumer."""
        await self._change("remove_consumer", {"consumer": consumer}, _ignore)

    async def forget_loss(self, consumer: str, upto: int) -> ConsumerRow:
        """Forget what a consumer lost, as it was told."""
        return await self._change("forget_loss", {"consumer": consumer, "upto": upto}, consumer_row)

    # -- reading ---------------------------------------------------------------------------------------------

    async def fetch(self, consumer: str, *, after: int, max_messages: int, max_bytes: int) -> list[MessageRow]:
        """Read a consumer's unsettled messages after a position."""
        most = min(max_messages, _MOST)
        rows = await self._rows_of(consumer, _FETCH, self.name, consumer, after, most, max_bytes)
        return [*map(message_row, rows)]

    async def fetch_key(
        self, consumer: str, key: str, *, after: int, upto: int, max_messages: int, max_bytes: int
    ) -> list[MessageRow]:
        """Read a consumer's unsettled messages with a key."""
        limits = after, upto, min(max_messages, _MOST), max_bytes
        rows = await self._rows_of(consumer, _FETCH_KEY, self.name, consumer, to_store(key), *limits)
        return [*map(message_row, rows)]

    async def fetch_retries(
        self, consumer: str, *, upto: int, held: Collection[int], max_messages: int, max_bytes: int
    ) -> Retries:
        """Read messages that are due again."""
        most = min(max_messages, _MOST)
        rows = await self._rows_of(consumer, _FETCH_RETRIES, self.name, consumer, upto, [*held], most, max_bytes)
        messages: list[MessageRow] = []
        next_at: float | None = None
        for row in rows:
            next_at = row[0]
            if row["position"] is not None:
                messages.append(message_row([*row][1:]))
        return Retries(tuple(messages), next_at)

    # -- what became of them ---------------------------------------------------------------------------------

    async def settle(self, consumer: str, epoch: int, positions: Collection[int]) -> ConsumerRow:
        """Mark messages as done for a consumer."""
        return await self._outcome(Outcome("settle", consumer, epoch, positions=positions), 16 * len(positions))

    async def retry(self, consumer: str, epoch: int, attempts: Sequence[Attempt]) -> ConsumerRow:
        """Keep how attempts ended."""
        return await self._outcome(
            Outcome("retry", consumer, epoch, attempts=_attempts(attempts)), 300 * len(attempts)
        )

    async def bury(self, consumer: str, epoch: int, attempts: Sequence[Attempt]) -> ConsumerRow:
        """Settle messages and keep them as dead letters."""
        return await self._outcome(
            Outcome("bury", consumer, epoch, attempts=_attempts(attempts)), 300 * len(attempts)
        )

    def hold(self, consumer: str, holder: str, position: int | None) -> None:
        """Note the oldest message that a holder has in hand."""
        self._shared.check()
        self._shared.holds.note(self.name, consumer, holder, position)

    # -- dead letters ----------------------------------------------------------------------------------------

    async def dead_letters(
        self, matching: DeadLetterFilter, *, after: int, max_letters: int, max_bytes: int
    ) -> list[DeadLetterRow]:
        """Read dead letters."""
        chosen, most = to_json(filter_values(matching)), min(max_letters, _MOST)
        letters: list[DeadLetterRow] = []
        size = 0
        for row in await self._rows(_LETTERS, self.name, chosen, after, most):
            size += len(row["record"])
            if letters and size > max_bytes:
                break
            letters.append(dead_letter(row))
        return letters

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
        arguments: dict[str, object] = {
            "filter": filter_values(matching),
            "after": after,
            "upto": upto,
            "most": min(max_letters, _MOST),
            "spacing_s": spacing_s,
            "first_at": first_at,
        }
        return await self._change("redrive", arguments, _redriven)

    async def discard_dead(self, matching: DeadLetterFilter, *, max_letters: int) -> int:
        """Forget dead letters."""
        arguments = {"filter": filter_values(matching), "most": min(max_letters, _MOST)}
        return await self._change("discard_dead", arguments, int)

    # -- how -------------------------------------------------------------------------------------------------

    def _check(self, message: NewMessageRow) -> None:
        if len(message.record) > _LARGEST_RECORD_BYTES:
            problem = f"a record has {len(message.record)} bytes, at most {_LARGEST_RECORD_BYTES} can be stored"
            raise StorageError(self._shared.engine.name, problem)

    def _check_name(self, name: str) -> None:
        if "\0" in name:
            problem = "PostgreSQL keeps no name with a NUL character; give the consumer a name without it"
            raise StorageError(self._shared.engine.name, problem)
        name.encode()

    def _add(
        self,
        operation: str,
        payload: Enqueue | Outcome | Change,
        applied: Callable[[Any], None],
        size: int,
        ids: tuple[str, ...] = (),
    ) -> asyncio.Future[Any]:
        lane = self._shared.lane(self.name)
        future: asyncio.Future[Any] = self._shared.loop.create_future()
        return lane.add(Write(operation, payload, applied, future, size + 64, ids))

    async def _outcome(self, outcome: Outcome, size: int) -> ConsumerRow:
        self._check_name(outcome.consumer)
        operation = f"{outcome.kind} messages of queue {self.name}"
        found: ConsumerRow = await self._add(operation, outcome, _ignore, size)
        return found

    async def _change(self, operation: str, arguments: dict[str, object], result: Callable[[Any], _T]) -> _T:
        self._check_name(str(arguments.get("consumer", "")))
        change = Change(operation, encoded(arguments), result)
        changed: _T = await self._add(f"{operation} of queue {self.name}", change, _ignore, 256)
        return changed

    async def _rows(self, query: str, *arguments: object) -> list[Row]:
        async def use(connection: Connection) -> list[Row]:
            return await connection.rows(query, *arguments)

        self._shared.check()
        return await self._shared.engine.read(use)

    async def _rows_of(self, consumer: str, query: str, *arguments: object) -> list[Row]:
        try:
            return await self._rows(query, *arguments)
        except StorageError as error:
            if isinstance(error.__cause__, Refusal) and error.__cause__.sqlstate == _NO_CONSUMER:
                raise self._unknown(consumer) from None
            raise

    def _unknown(self, consumer: str) -> StorageError:
        problem = f"queue {self.name} has no consumer {consumer}; {HOW_TO_BEGIN}"
        return StorageError(self._shared.engine.name, problem)


def _attempts(attempts: Sequence[Attempt]) -> msgspec.Raw:
    return encoded([*map(attempt_values, attempts)])


def _redriven(values: Sequence[Any]) -> Redriven:
    letters, last, newest, next_due_at = values
    return Redriven(letters, last, newest, None if next_due_at is None else float(next_due_at))


def _ignore(_: object) -> None:
    """Neither report nor return anything."""
