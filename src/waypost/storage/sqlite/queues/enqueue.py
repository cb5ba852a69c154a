"""Adds messages to queues, many at a time and from any source.

All requests that wait for the writer are handled together: each queue's counters are read and written once, and rows
are inserted many at a time, so that a message costs little more than its row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from typing import Any, NoReturn, TypeVar

from waypost.errors import QueueFull
from waypost.storage.queue_records import Accepted, Enqueued, NewMessageRow, QueueLimits
from waypost.storage.sqlite.bodies import LARGE_BYTES, MESSAGE_SIZE
from waypost.storage.sqlite.jobs import Gathered, Transaction
from waypost.storage.sqlite.queues.kept import free_kept
from waypost.storage.sqlite.queues.queues import LIMITS, make_queue, own_limits
from waypost.storage.sqlite.queues.removal import lose
from waypost.storage.sqlite.queues.rows import (
    MESSAGE_COLUMNS,
    PLAIN_COLUMNS,
    Content,
    content_of,
    is_damaged,
    message_row,
)
from waypost.storage.sqlite.sums import message_sum

__all__ = ["Enqueuing", "Request", "append_for", "release", "schedule", "take_outbox"]

# How many messages become due, or leave the outbox, in one job.
_STEP = 500
# A statement takes so many rows; few different ones, so that they stay prepared.
_ROWS_AT_ONCE = (512, 128, 32, 8, 1)
_ID_COLUMNS = "queue, id, position, accepted_at, until"
_FIND_QUEUE = f"SELECT id, top, for_all, messages, delayed, bytes, {LIMITS} FROM queue WHERE name = ?"
# Of what is scheduled: neither purged, nor for a consumer that was deleted.
_IS_LEFT = (
    "s.number > q.scheduled_floor AND (s.consumer IS NULL OR EXISTS "
    "(SELECT 1 FROM consumer c WHERE c.id = s.consumer AND c.queue = s.queue))"
)
_Row = tuple[object, ...]
# Faster than the constructor of a named tuple.
_new_tuple = tuple.__new__
_T = TypeVar("_T")


@dataclass(slots=True)
class Request:
    """A call of `Queue.enqueue`.

    Attributes:
        queue: The queue's name.
        messages: What is to be added.
        deduplicate_s: The window in which ids are duplicates, in seconds; 0 for none.
        size: The bytes that the messages count for together.
        limited: Whether the queue's limits hold.
        damaged: Whether the messages are known to be damaged, and must be found to be.
    """

    queue: str
    messages: Sequence[NewMessageRow]
    deduplicate_s: float
    size: int
    limited: bool = True
    damaged: bool = False


@dataclass(slots=True)
class _QueueState:
    """A queue's row while messages are added."""

    id: int
    top: int
    for_all: int
    messages: int
    delayed: int
    bytes: int
    limits: QueueLimits
    seen: dict[str, tuple[int, float, float]] = field(default_factory=dict)

    def has_room_for(self, request: Request) -> bool:
        """Return whether a request fits into the limits, or they do not apply to it."""
        limits = self.limits
        return not request.limited or (
            self.messages + self.delayed + len(request.messages) <= limits.max_messages
            and self.bytes + request.size <= limits.max_bytes
        )


class Enqueuing:
    """Adds the messages of many requests within one transaction.

    Args:
        tx: The transaction.
        store: The store, as errors name it.
        limits: The limits of queues that have none of their own.
    """

    def __init__(self, tx: Transaction, store: str, limits: QueueLimits) -> None:
        self._tx = tx
        self._store = store
        self._limits = limits
        self._states: dict[str, _QueueState] = {}
        self._messages: list[_Row] = []
        self._special: list[_Row] = []
        self._ids: list[_Row] = []

    def run(self, jobs: Iterable[Gathered[Request, Enqueued]]) -> None:
        """Do jobs one after the other, and write what they have added."""
        self.look_up([job.request for job in jobs])
        for job in jobs:
            job.error = None
            try:
                job.result = self.add(job.request)
            except QueueFull as refusal:
                job.error = refusal
        self.flush()

    def add(self, request: Request) -> Enqueued:
        """Add messages, to be written by `flush`; raises `QueueFull` if they may not be."""
        now, window_s = self._tx.now, request.deduplicate_s
        state = self._states.get(request.queue) or self._state(request.queue)
        accepted: list[Accepted] = []
        losers = () if state.has_room_for(request) else self._make_room(request, state)
        next_due_at: float | None = None
        for message in request.messages:
            message_id, delay_s = message.id, message.delay_s
            if window_s > 0:
                position, accepted_at, until = state.seen.get(message_id, (0, 0.0, 0.0))
                if position and now < min(until, accepted_at + window_s):
                    accepted.append(Accepted(message_id, max(0, position), duplicate=True))
                    continue
            if delay_s > 0:
                due_at = now + delay_s
                next_due_at = due_at if next_due_at is None else min(next_due_at, due_at)
                position = -self._schedule(state, message, due_at, request.damaged)
            else:
                position = self._append(state, message, request.damaged)
            if window_s > 0:
                state.seen[message_id] = (position, now, now + window_s)
                self._ids.append((state.id, message_id, position, now, now + window_s))
            accepted.append(_new_tuple(Accepted, (message_id, position if position > 0 else 0, False)))
        return Enqueued(tuple(accepted), tuple(losers), next_due_at)

    def flush(self) -> None:
        """Write what was added."""
        connection = self._tx.connection
        _insert(connection, "INSERT INTO message", PLAIN_COLUMNS, self._messages)
        _insert(connection, "INSERT INTO message", MESSAGE_COLUMNS, self._special)
        _insert(connection, "INSERT OR REPLACE INTO deduplication", _ID_COLUMNS, self._ids)
        for state in self._states.values():
            connection.execute(
                "UPDATE queue SET top = ?, for_all = ?, messages = ?, delayed = ?, bytes = ? WHERE id = ?",
                (state.top, state.for_all, state.messages, state.delayed, state.bytes, state.id),
            )
        self._messages, self._special, self._ids = [], [], []

    def look_up(self, requests: Iterable[Request]) -> None:
        """Read which of the ids were accepted before, with one query for each queue."""
        wanted: dict[str, list[str]] = {}
        for request in requests:
            if request.deduplicate_s > 0:
                wanted.setdefault(request.queue, []).extend([message.id for message in request.messages])
        for queue, ids in wanted.items():
            self._read_ids(self._state(queue), ids)

    def _read_ids(self, state: _QueueState, ids: list[str]) -> None:
        for some in _portions(ids):
            marks = ", ".join("?" * len(some))
            rows = self._tx.connection.execute(
                f"SELECT id, position, accepted_at, until FROM deduplication WHERE queue = ? AND id IN ({marks})",
                (state.id, *some),
            ).fetchall()
            for message_id, position, accepted_at, until in rows:
                state.seen[message_id] = (position, accepted_at, until)

    def _state(self, name: str) -> _QueueState:
        state = self._states.get(name)
        if state is None:
            row = self._row(name)
            if row is None:
                make_queue(self._tx, name)
                row = self._row(name)
                assert row is not None
            number, top, for_all, messages, delayed, size, *own = row
            limits = own_limits(*own) or self._limits
            state = self._states[name] = _QueueState(number, top, for_all, messages, delayed, size, limits)
        return state

    def _row(self, name: str) -> tuple[Any, ...] | None:
        rows = self._tx.connection.execute(_FIND_QUEUE, (name,)).fetchall()
        return rows[0] if rows else None

    def _append(self, state: _QueueState, message: NewMessageRow, damaged: bool) -> int:
        state.top += 1
        state.for_all += 1
        state.messages += 1
        now = self._tx.now
        message_id, record, key, ttl_s, _, headers = message
        expires_at = None if ttl_s is None else now + ttl_s
        size = len(record)
        if headers is None and not damaged and size + len(message_id) + (len(key) if key else 0) <= LARGE_BYTES:
            # Most are like this, and each step is felt.
            state.bytes += size
            kept_sum = message_sum(message_id, key, None, record)
            self._messages.append((state.id, state.top, now, expires_at, message_id, key, kept_sum, record))
        else:
            content = content_of(message, damaged=damaged)
            state.bytes += content.size
            place = (state.id, state.top, now, expires_at)
            self._special.append(message_row(self._tx.connection, place, content))
        return state.top

    def _schedule(self, state: _QueueState, message: NewMessageRow, due_at: float, damaged: bool) -> int:
        state.delayed += 1
        content = content_of(message, damaged=damaged)
        state.bytes += content.size
        return schedule(self._tx.connection, state.id, due_at, message.ttl_s, content)

    def _make_room(self, request: Request, state: _QueueState) -> list[str]:
        """Make room for messages within the limits; returns the consumers that lost messages."""
        limits = state.limits
        beyond = state.messages + state.delayed + len(request.messages) - limits.max_messages
        beyond_bytes = state.bytes + request.size - limits.max_bytes
        fresh = self._fresh(request, state)
        beyond += len(fresh) - len(request.messages)
        beyond_bytes += sum(message.size for message in fresh) - request.size
        if fresh and limits.keep_settled_s > 0 and (beyond > 0 or beyond_bytes > 0):
            kept = state.messages, state.bytes
            self.flush()
            free_kept(self._tx.connection, state.id, beyond, beyond_bytes)
            self._count_anew(state)
            beyond -= kept[0] - state.messages
            beyond_bytes -= kept[1] - state.bytes
        dropped: list[int] = []
        if limits.overflow == "drop_oldest" and fresh:
            self.flush()
            room = len(fresh) + _STEP, sum(message.size for message in fresh)
            dropped, beyond, beyond_bytes = self._oldest(state, beyond, beyond_bytes, room)
        if fresh and (beyond > 0 or beyond_bytes > 0):
            self._refuse(request.queue, state)
        losers = lose(self._tx.connection, state.id, dropped) if dropped else []
        if dropped:
            self._count_anew(state)
        return losers

    def _count_anew(self, state: _QueueState) -> None:
        """Take the counters of a queue whose messages were removed."""
        ((state.messages, state.bytes),) = self._tx.connection.execute(
            "SELECT messages, bytes FROM queue WHERE id = ?", (state.id,)
        ).fetchall()

    def _fresh(self, request: Request, state: _QueueState) -> list[NewMessageRow]:
        if request.deduplicate_s <= 0:
            return [*request.messages]
        fresh: dict[str, NewMessageRow] = {}
        for message in request.messages:
            position, accepted_at, until = state.seen.get(message.id, (0, 0.0, 0.0))
            if not position or self._tx.now >= min(until, accepted_at + request.deduplicate_s):
                fresh.setdefault(message.id, message)
        return [*fresh.values()]

    def _oldest(
        self, state: _QueueState, beyond: int, beyond_bytes: int, room: tuple[int, int]
    ) -> tuple[list[int], int, int]:
        """Choose what is to be dropped; returns the positions, and what is too much still.

        A queue may have far more than its limits since they were lowered. Then this drops a part: ``room`` is the
        least number of messages, and of bytes, after which the rest is left to later calls.
        """
        positions: list[int] = []
        dropped_bytes = 0
        for position, size in self._tx.connection.execute(
            f"SELECT position, {MESSAGE_SIZE} FROM message WHERE queue = ?1 "
            "AND position > (SELECT floor FROM queue WHERE id = ?1) ORDER BY position",
            (state.id,),
        ):
            if beyond <= 0 and beyond_bytes <= 0:
                break
            if len(positions) >= room[0] and dropped_bytes >= room[1]:
                return positions, 0, 0
            positions.append(position)
            dropped_bytes += size
            beyond -= 1
            beyond_bytes -= size
        return positions, beyond, beyond_bytes

    def _refuse(self, queue: str, state: _QueueState) -> NoReturn:
        if state.top == state.delayed == 0:
            # It may have been made for this request.
            self._tx.connection.execute(
                "DELETE FROM queue WHERE id = ? AND top = 0 AND consumers = 0 AND settings IS NULL "
                "AND paused_until IS NULL AND delayed = 0",
                (state.id,),
            )
            del self._states[queue]
        kept, limits = state.messages + state.delayed, state.limits
        raise QueueFull(self._store, queue, kept, state.bytes, limits.max_messages, limits.max_bytes)


def schedule(
    connection: sqlite3.Connection,
    queue: int,
    due_at: float,
    ttl_s: float | None,
    content: Content,
    *,
    consumer: int | None = None,
    history: str | None = None,
) -> int:
    """Keep a message that is not due yet; returns its number.

    Args:
        connection: The writer's connection.
        queue: The queue's number.
        due_at: The store's time at which it is due, in seconds.
        ttl_s: Its time to live from then on, in seconds.
        content: Its content.
        consumer: The number of the only consumer that it is for.
        history: Its attempts before it was redriven.
    """
    ((number,),) = connection.execute(
        "INSERT INTO scheduled (queue, due_at, ttl_s, consumer, history, id, key, headers, sum, record) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING number",
        (queue, due_at, ttl_s, consumer, history, *content),
    ).fetchall()
    return int(number)


def append_for(
    tx: Transaction, queue: int, consumer: int, expires_at: float | None, history: str | None, content: Content
) -> None:
    """Assign the next position to a message for one consumer alone.

    Args:
        tx: The transaction.
        queue: The queue's number.
        consumer: The consumer's number.
        expires_at: The store's time from which on it is not delivered, in seconds; ``None`` for never.
        history: Its attempts before it was redriven.
        content: Its content.
    """
    ((top,),) = tx.connection.execute(
        "UPDATE queue SET top = top + 1, messages = messages + 1 WHERE id = ? RETURNING top", (queue,)
    ).fetchall()
    row = message_row(tx.connection, (queue, top, tx.now, expires_at), content)
    columns = f"{MESSAGE_COLUMNS}, consumer, history"
    _insert(tx.connection, "INSERT INTO message", columns, [(*row, consumer, history)])
    tx.connection.execute("UPDATE consumer SET passed = passed - 1 WHERE id = ?", (consumer,))


def release(tx: Transaction) -> tuple[set[str], float | None]:
    """Assign positions to some messages that are due.

    Returns:
        The names of their queues, and the time at which the next one is due, which may be now.
    """
    connection = tx.connection
    rows = connection.execute(
        "SELECT s.number, s.queue, q.name, s.due_at, s.ttl_s, s.consumer, s.history, s.id, s.key, s.headers, s.sum, "
        "s.record "
        f"FROM scheduled s JOIN queue q ON q.id = s.queue WHERE s.due_at <= ? AND {_IS_LEFT} "
        "ORDER BY s.due_at, s.number LIMIT ?",
        (tx.now, _STEP),
    ).fetchall()
    for number, queue, _, due_at, ttl_s, consumer, history, *content in rows:
        expires_at = None if ttl_s is None else due_at + ttl_s
        if consumer is not None:
            append_for(tx, queue, consumer, expires_at, history, Content(*content))
        else:
            _append_due(tx, queue, number, expires_at, Content(*content))
        connection.execute("DELETE FROM scheduled WHERE number = ?", (number,))
        connection.execute("UPDATE queue SET delayed = delayed - 1 WHERE id = ?", (queue,))
    next_due = connection.execute(
        f"SELECT s.due_at FROM scheduled s JOIN queue q ON q.id = s.queue WHERE {_IS_LEFT} ORDER BY s.due_at LIMIT 1"
    ).fetchall()
    return {row[2] for row in rows}, next_due[0][0] if next_due else None


def _append_due(tx: Transaction, queue: int, number: int, expires_at: float | None, content: Content) -> None:
    ((top,),) = tx.connection.execute(
        "UPDATE queue SET top = top + 1, for_all = for_all + 1, messages = messages + 1 WHERE id = ? RETURNING top",
        (queue,),
    ).fetchall()
    row = message_row(tx.connection, (queue, top, tx.now, expires_at), content)
    _insert(tx.connection, "INSERT INTO message", MESSAGE_COLUMNS, [row])
    tx.connection.execute(
        "UPDATE deduplication SET position = ? WHERE queue = ? AND id = ? AND position = ?",
        (top, queue, content.id, -number),
    )


def take_outbox(
    tx: Transaction, store: str, limits: QueueLimits
) -> tuple[set[str], int, list[tuple[float, Content]]]:
    """Move some of what applications have published into the queues.

    Returns:
        The queues' names; how many rows left the outbox; and those of them that are no message but a write to a
        journal, each with its window of deduplication.
    """
    found = tx.connection.execute(
        "SELECT number, queue, ttl_s, delay_s, published_at, deduplicate_s, id, key, headers, sum, record "
        "FROM outbox ORDER BY number LIMIT ?",
        (_STEP,),
    ).fetchall()
    rows = [row for row in found if row[1]]
    if rows:
        enqueuing = Enqueuing(tx, store, limits)
        requests = []
        for _, queue, ttl_s, delay_s, published_at, deduplicate_s, *columns in rows:
            content = Content(*columns)
            # The delay counts from when it was published.
            delay_s = min(delay_s, max(0.0, published_at + delay_s - tx.now)) if delay_s > 0 else 0.0
            message = NewMessageRow(content.id, content.record, content.key, ttl_s, delay_s, content.headers)
            # What was accepted with the application's commit is not refused any more.
            damaged = is_damaged(content)
            requests.append(Request(queue, [message], deduplicate_s, content.size, limited=False, damaged=damaged))
        enqueuing.look_up(requests)
        for request in requests:
            enqueuing.add(request)
        enqueuing.flush()
    if found:
        tx.connection.execute("DELETE FROM outbox WHERE number <= ?", (found[-1][0],))
    writes = [(row[5], Content(*row[6:])) for row in found if not row[1]]
    return {row[1] for row in rows}, len(found), writes


def _insert(connection: sqlite3.Connection, insert: str, columns: str, rows: list[_Row]) -> None:
    """Insert rows, many with one step of SQLite: between steps other threads take their turn."""
    for some in _portions(rows):
        connection.execute(_insert_sql(insert, columns, len(some)), [*chain.from_iterable(some)])


@cache
def _insert_sql(insert: str, columns: str, rows: int) -> str:
    marks = f"({', '.join('?' * (columns.count(',') + 1))})"
    return f"{insert} ({columns}) VALUES {', '.join([marks] * rows)}"


def _portions(items: list[_T]) -> Iterator[list[_T]]:
    """Split a list into portions of few different sizes."""
    start = 0
    for at_once in _ROWS_AT_ONCE:
        while len(items) - start >= at_once:
            yield items[start : start + at_once]
            start += at_once
