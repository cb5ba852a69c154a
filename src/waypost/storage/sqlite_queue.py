"""One queue of a `SqliteStore`: its handle, and what the writer and the reader do for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from itertools import pairwise

from waypost.errors import StorageError
from waypost.storage.queue_base import Accepted, ConsumerInfo, Message, QueueInfo
from waypost.storage.sqlite_reader import Reader
from waypost.storage.sqlite_settle import Consumer, Run, runs_between, settle_run
from waypost.storage.sqlite_writer import Transaction, Writer

__all__ = ["SqliteQueue", "forget_ids"]

# One step of deleting is one job between others.
_STEP = 1000


class SqliteQueue:
    """A handle on one queue of a `SqliteStore`; see `waypost.storage.base.Queue`.

    Args:
        store: The store, as errors name it.
        name: The queue's name.
        writer: What it writes with.
        reader: What it reads with.
    """

    __slots__ = ("_reader", "_store", "_writer", "name")

    def __init__(self, store: str, name: str, writer: Writer, reader: Reader) -> None:
        self.name = name
        self._store = store
        self._writer = writer
        self._reader = reader

    async def enqueue(
        self, message_id: str, record: bytes, *, deduplicate_s: float, on_commit: Callable[[Accepted], None]
    ) -> Accepted:
        """Add a message, unless its id was accepted within the last ``deduplicate_s`` seconds."""
        return await self._writer.submit(
            lambda tx: _enqueue(tx, self.name, message_id, record, deduplicate_s), on_commit
        )

    async def add_consumer(self, consumer: str) -> ConsumerInfo:
        """Return a consumer, made if need be: a new one starts at the oldest message the queue keeps."""
        return await self._writer.submit(lambda tx: _add_consumer(tx, self.name, consumer))

    async def fetch(self, consumer: str, *, after: int, max_messages: int, max_bytes: int) -> list[Message]:
        """Read a consumer's unsettled messages after a position, oldest first."""
        self._writer.check()
        return await self._reader.run(
            lambda connection: _fetch(connection, self._found(connection, consumer), after, max_messages, max_bytes)
        )

    async def settle(self, consumer: str, positions: Collection[int]) -> ConsumerInfo:
        """Mark messages as done for a consumer; those that every consumer has settled are removed."""
        runs = _runs({*positions})
        return await self._writer.submit(
            lambda tx: _settle(tx.connection, self._found(tx.connection, consumer), runs)
        )

    async def count_delivery(self, consumer: str, position: int) -> None:
        """Count a delivery that was lost against an unsettled message."""
        await self._writer.submit(
            lambda tx: _count_delivery(tx.connection, self._found(tx.connection, consumer), position)
        )

    async def info(self) -> QueueInfo:
        """Return the queue's state, all zero for one that does not exist."""
        self._writer.check()
        return await self._reader.run(lambda connection: _info(connection, self.name))

    def _found(self, connection: sqlite3.Connection, consumer: str) -> Consumer:
        found = _find_consumer(connection, self.name, consumer)
        if found is None:
            raise StorageError(self._store, f"queue {self.name} has no consumer {consumer}")
        return found


def forget_ids(tx: Transaction) -> int:
    """Forget some ids whose deduplication window has ended; returns how many, 0 if no more are there."""
    return tx.connection.execute(
        "DELETE FROM deduplication WHERE (queue, id) IN "
        "(SELECT queue, id FROM deduplication WHERE until <= ? LIMIT ?)",
        (tx.now, _STEP),
    ).rowcount


def _enqueue(tx: Transaction, name: str, message_id: str, record: bytes, deduplicate_s: float) -> Accepted:
    if deduplicate_s > 0:
        seen = tx.connection.execute(
            "SELECT d.position, min(d.until, d.accepted_at + ?) FROM queue q JOIN deduplication d "
            "ON d.queue = q.id AND d.id = ? WHERE q.name = ?",
            (deduplicate_s, message_id, name),
        ).fetchall()
        if seen and tx.now < seen[0][1]:
            return Accepted(message_id, seen[0][0], duplicate=True)
    ((queue, position),) = tx.connection.execute(
        "INSERT INTO queue (name, top, messages, bytes) VALUES (?, 1, 1, ?) ON CONFLICT (name) DO UPDATE SET "
        "top = top + 1, messages = messages + 1, bytes = bytes + excluded.bytes RETURNING id, top",
        (name, len(record)),
    ).fetchall()
    tx.connection.execute(
        "INSERT INTO message (queue, position, id, enqueued_at, record) VALUES (?, ?, ?, ?, ?)",
        (queue, position, message_id, tx.now, record),
    )
    if deduplicate_s > 0:
        tx.connection.execute(
            "INSERT OR REPLACE INTO deduplication (queue, id, position, accepted_at, until) VALUES (?, ?, ?, ?, ?)",
            (queue, message_id, position, tx.now, tx.now + deduplicate_s),
        )
    return Accepted(message_id, position, duplicate=False)


def _find_consumer(connection: sqlite3.Connection, queue: str, name: str) -> Consumer | None:
    rows = connection.execute(
        "SELECT c.id, c.queue, c.name, q.top, c.cursor, c.ahead FROM queue q JOIN consumer c "
        "ON c.queue = q.id AND c.name = ? WHERE q.name = ?",
        (name, queue),
    ).fetchall()
    return Consumer(*rows[0]) if rows else None


def _add_consumer(tx: Transaction, queue_name: str, name: str) -> ConsumerInfo:
    connection = tx.connection
    found = _find_consumer(connection, queue_name, name)
    if found is None:
        connection.execute(
            "INSERT INTO queue (name, top, messages, bytes) VALUES (?, 0, 0, 0) ON CONFLICT (name) DO NOTHING",
            (queue_name,),
        )
        ((queue, top, messages),) = connection.execute(
            "SELECT id, top, messages FROM queue WHERE name = ?", (queue_name,)
        ).fetchall()
        # The first message after the slowest cursor is kept, for the consumer that stands there.
        slowest = connection.execute(
            "SELECT id, cursor FROM consumer WHERE queue = ? ORDER BY cursor LIMIT 1", (queue,)
        ).fetchall()
        cursor = slowest[0][1] if slowest else 0
        ((consumer,),) = connection.execute(
            "INSERT INTO consumer (queue, name, cursor, ahead) VALUES (?, ?, ?, 0) RETURNING id",
            (queue, name, cursor),
        ).fetchall()
        found = Consumer(consumer, queue, name, top, cursor, 0)
        if messages != top - cursor:
            found = _skip_removed(connection, found, slowest[0][0])
    return _consumer_info(found)


def _skip_removed(connection: sqlite3.Connection, consumer: Consumer, slowest: int) -> Consumer:
    """Mark what was removed from between the messages as settled for a new consumer.

    All consumers had settled it, so it is found among what the slowest one has settled.
    """
    holes = 0
    for run in runs_between(connection, slowest, consumer.cursor, consumer.top):
        kept = connection.execute(
            "SELECT position FROM message WHERE queue = ? AND position BETWEEN ? AND ? ORDER BY position",
            (consumer.queue, run.first, run.last),
        ).fetchall()
        edges = [run.first - 1, *(position for (position,) in kept), run.last + 1]
        for before, after in pairwise(edges):
            if after - before > 1:
                connection.execute(
                    "INSERT INTO settled (consumer, first, last) VALUES (?, ?, ?)",
                    (consumer.id, before + 1, after - 1),
                )
                holes += after - before - 1
    connection.execute("UPDATE consumer SET ahead = ? WHERE id = ?", (holes, consumer.id))
    return replace(consumer, ahead=holes)


def _fetch(
    connection: sqlite3.Connection, consumer: Consumer, after: int, max_messages: int, max_bytes: int
) -> list[Message]:
    messages: list[Message] = []
    size = 0
    for gap in _open_runs(connection, consumer, after):
        rows = connection.execute(
            "SELECT m.position, m.id, m.record, m.enqueued_at, coalesce(d.lost, 0) FROM message m "
            "LEFT JOIN delivery d ON d.consumer = ? AND d.position = m.position "
            "WHERE m.queue = ? AND m.position BETWEEN ? AND ? ORDER BY m.position",
            (consumer.id, consumer.queue, gap.first, gap.last),
        )
        for row in rows:
            message = Message(*row)
            size += len(message.record)
            if len(messages) == max_messages or (messages and size > max_bytes):
                return messages
            messages.append(message)
    return messages


def _open_runs(connection: sqlite3.Connection, consumer: Consumer, after: int) -> Iterator[Run]:
    """Find, one by one, the runs of positions after one that a consumer has not settled."""
    position = max(after, consumer.cursor) + 1
    if consumer.ahead:
        for run in runs_between(connection, consumer.id, position - 1, consumer.top):
            if run.first > position:
                yield Run(position, run.first - 1)
            position = run.last + 1
    if position <= consumer.top:
        yield Run(position, consumer.top)


def _settle(connection: sqlite3.Connection, consumer: Consumer, runs: list[Run]) -> ConsumerInfo:
    for run in runs:
        consumer = settle_run(connection, consumer, run)
    return _consumer_info(consumer)


def _count_delivery(connection: sqlite3.Connection, consumer: Consumer, position: int) -> None:
    covering = runs_between(connection, consumer.id, position - 1, position)
    if consumer.cursor < position <= consumer.top and next(covering, None) is None:
        connection.execute(
            "INSERT INTO delivery (consumer, position, lost) VALUES (?, ?, 1) "
            "ON CONFLICT (consumer, position) DO UPDATE SET lost = lost + 1",
            (consumer.id, position),
        )


def _info(connection: sqlite3.Connection, name: str) -> QueueInfo:
    found = connection.execute("SELECT id, top, messages, bytes FROM queue WHERE name = ?", (name,)).fetchall()
    if not found:
        return QueueInfo(name, 0, 0, 0, None, ())
    queue, top, messages, size = found[0]
    oldest = connection.execute(
        "SELECT enqueued_at FROM message WHERE queue = ? ORDER BY position LIMIT 1", (queue,)
    ).fetchall()
    consumers = connection.execute(
        "SELECT id, queue, name, ?, cursor, ahead FROM consumer WHERE queue = ? ORDER BY name", (top, queue)
    ).fetchall()
    return QueueInfo(
        name,
        top,
        messages,
        size,
        oldest[0][0] if oldest else None,
        tuple(_consumer_info(Consumer(*row)) for row in consumers),
    )


def _consumer_info(consumer: Consumer) -> ConsumerInfo:
    return ConsumerInfo(consumer.name, consumer.cursor, consumer.top - consumer.cursor - consumer.ahead)


def _runs(positions: set[int]) -> list[Run]:
    runs: list[Run] = []
    for position in sorted(positions):
        if runs and runs[-1].last == position - 1:
            runs[-1] = Run(runs[-1].first, position)
        else:
            runs.append(Run(position, position))
    return runs
