"""Ends the oldest messages of a queue with one short commit, however many they are.

The commit raises the queue's *floor*, up to which all messages are gone, and sets all counters; the rows themselves
are removed later, in steps, without counting (`sweeps`). What the counters have to lose is counted before, in short
queries of the reader. The commit takes place only if nothing has changed what was counted.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from typing import Literal

from waypost.storage.queue_records import QueueLimits
from waypost.storage.sqlite.bodies import MESSAGE_SIZE
from waypost.storage.sqlite.jobs import Transaction
from waypost.storage.sqlite.queues.consumers import ConsumerState, begin_epoch, of_queue, save
from waypost.storage.sqlite.queues.keeping import keep_run, keep_s

__all__ = [
    "Count",
    "How",
    "begin_count",
    "count_in_one",
    "count_on",
    "count_unwanted",
    "end_all",
    "end_counted",
    "end_passed",
    "note_sweep",
    "wants_the_oldest",
]

_STEP = 2000
_Print = tuple[object, ...]
How = Literal["purged", "lost", "unwanted"]


@dataclass(slots=True)
class Missed:
    """The messages among those that end that one consumer has not settled: their number, the first and the last."""

    fresh: int = 0
    outstanding: int = 0
    retrying: int = 0
    first: int = 0
    last: int = 0

    def add(self, first: int, last: int) -> None:
        """Note that messages between two positions are among them."""
        self.first = first if not self.first else min(self.first, first)
        self.last = max(self.last, last)


@dataclass(slots=True)
class Count:
    """The messages that are to end, as far as they were counted.

    Attributes:
        queue: The queue's number.
        upto: The last position that ends at most.
        most: How many messages, and bytes, are to end; ``None`` for all up to there.
        print: What must not have changed at the end.
        at: The position up to which they were counted.
        messages: How many these are.
        bytes: How many bytes these are.
        missed: What each consumer misses, by its ledger.
        is_done: Whether the count is at its end.
    """

    queue: int
    upto: int
    most: tuple[int, int] | None
    print: _Print
    at: int
    messages: int = 0
    bytes: int = 0
    missed: dict[int, Missed] = field(default_factory=dict)
    is_done: bool = False

    def has_enough(self, messages: int = 0, size: int = 0) -> bool:
        """Return whether enough was counted, with some more."""
        if self.most is None:
            return False
        return self.messages + messages >= self.most[0] and self.bytes + size >= self.most[1]


def begin_count(
    connection: sqlite3.Connection, name: str, upto: int | None = None, limits: QueueLimits | None = None
) -> Count | None:
    """Begin to count the messages of a queue up to a position, or those beyond its limits; ``None`` if none are."""
    rows = connection.execute(
        "SELECT id, top, floor, messages, delayed, bytes FROM queue WHERE name = ?", (name,)
    ).fetchall()
    if not rows:
        return None
    number, top, floor, messages, delayed, size = rows[0]
    most = None
    if limits is not None:
        most = messages + delayed - limits.max_messages, size - limits.max_bytes
        if most[0] <= 0 and most[1] <= 0:
            return None
    last = top if upto is None else min(upto, top)
    return None if last <= floor else Count(number, last, most, _print(connection, number), floor)


def count_unwanted(connection: sqlite3.Connection, name: str, keep_settled_s: float) -> Count | None:
    """Begin to count the messages before the first one that any consumer wants; ``None`` if none are to end.

    Args:
        connection: A connection for reading.
        name: The queue's name.
        keep_settled_s: For how long a queue without its own limits keeps such messages.
    """
    rows = connection.execute(
        "SELECT min(coalesce((SELECT min(o.position) - 1 FROM outstanding o "
        "WHERE o.consumer = coalesce(c.ledger, c.id) AND o.position > q.floor), c.frontier)) "
        "FROM queue q JOIN consumer c ON c.queue = q.id WHERE q.name = ? AND coalesce(q.keep_settled_s, ?) = 0",
        (name, keep_settled_s),
    ).fetchall()
    return None if rows[0][0] is None else begin_count(connection, name, rows[0][0])


def wants_the_oldest(connection: sqlite3.Connection, consumer: ConsumerState) -> bool:
    """Return whether no message is kept before the first one that a consumer wants.

    Only then may all that no other consumer wants end with one mark. Before that, there may be messages from before
    the start of all consumers, which nobody has settled: they are kept for a consumer that begins with them.
    """
    ((first,),) = connection.execute(
        "SELECT coalesce(min(position), ?) FROM outstanding WHERE consumer = ? AND position > ?",
        (consumer.frontier + 1, consumer.ledger, consumer.floor),
    ).fetchall()
    earlier = connection.execute(
        "SELECT 1 FROM message WHERE queue = ? AND position > ? AND position < ? LIMIT 1",
        (consumer.queue, consumer.floor, first),
    ).fetchall()
    return not earlier


def count_in_one(connection: sqlite3.Connection, count: Count) -> None:
    """Count to the end."""
    while not count.is_done and not count.has_enough():
        count_on(connection, count)


def count_on(connection: sqlite3.Connection, count: Count) -> None:
    """Count some more; short enough for one turn of the reader."""
    after = count.at
    chosen = "FROM message WHERE queue = ? AND position > ? AND position <= ? ORDER BY position LIMIT ?"
    values = (count.queue, after, count.upto, _STEP)
    messages, size, last = connection.execute(
        "SELECT count(*), coalesce(sum(size), 0), max(position) "
        f"FROM (SELECT position, {MESSAGE_SIZE} AS size {chosen})",
        values,
    ).fetchone()
    if not messages:
        # The positions up to the end have no messages left, and end with them.
        count.at, count.is_done = (count.upto if count.most is None else after), True
        return
    if count.has_enough(messages, size):
        messages = size = 0
        for last, one in connection.execute(f"SELECT position, {MESSAGE_SIZE} {chosen}", values):  # noqa: B007
            messages, size = messages + 1, size + one
            if count.has_enough(messages, size):
                break
        count.is_done = True
    count.messages += messages
    count.bytes += size
    count.at = last
    _count_missed(connection, count, after)


def _count_missed(connection: sqlite3.Connection, count: Count, after: int) -> None:
    for ledger, fresh, first, last in connection.execute(
        "SELECT coalesce(c.ledger, c.id), count(*), min(m.position), max(m.position) FROM consumer c "
        "CROSS JOIN message m ON m.queue = c.queue AND m.position > max(c.frontier, ?) AND m.position <= ? "
        "AND (m.consumer IS NULL OR m.consumer = c.id) WHERE c.queue = ? GROUP BY c.id",
        (after, count.at, count.queue),
    ):
        missed = count.missed.setdefault(ledger, Missed())
        missed.fresh += fresh
        missed.add(first, last)
    for ledger, outstanding, retrying, first, last in connection.execute(
        "SELECT consumer, count(*), sum(retry_at > 0), min(position), max(position) FROM outstanding "
        "WHERE queue = ? AND position > ? AND position <= ? GROUP BY consumer",
        (count.queue, after, count.at),
    ):
        missed = count.missed.setdefault(ledger, Missed())
        missed.outstanding += outstanding
        missed.retrying += retrying
        missed.add(first, last)


def end_counted(tx: Transaction, count: Count, how: How) -> bool:
    """End what was counted.

    Args:
        tx: The transaction.
        count: The messages.
        how: ``"purged"``: who had not settled them begins another epoch. ``"lost"``: they are told what they lost.
            ``"unwanted"``: all had settled them.

    Returns:
        Whether they have ended; if not, something has changed since the count began, and it must begin anew.
    """
    connection, number = tx.connection, count.queue
    if _print(connection, number) != count.print:
        return False
    connection.execute(
        "UPDATE queue SET floor = ?, messages = messages - ?, bytes = bytes - ?, dropped = dropped + ? WHERE id = ?",
        (count.at, count.messages, count.bytes, count.messages if how == "lost" else 0, number),
    )
    for consumer in of_queue(connection, number):
        missed = count.missed.get(consumer.ledger)
        if missed is not None:
            consumer.outstanding -= missed.outstanding
            consumer.retrying -= missed.retrying
            consumer.passed += missed.fresh
            if how == "purged":
                begin_epoch(connection, consumer)
            else:
                _note_loss(consumer, missed)
        consumer.frontier = max(consumer.frontier, count.at)
        save(connection, consumer)
    note_sweep(connection, number, "floor", upto=count.at)
    return True


def end_all(tx: Transaction, name: str) -> int:
    """End all messages of a queue, those that are not due yet included; returns how many."""
    connection = tx.connection
    rows = connection.execute(
        "SELECT id, top, messages, delayed, (SELECT coalesce(max(number), 0) FROM scheduled) FROM queue "
        "WHERE name = ?",
        (name,),
    ).fetchall()
    if not rows or not (rows[0][2] or rows[0][3]):
        return 0
    number, top, messages, delayed, last_scheduled = rows[0]
    connection.execute(
        "UPDATE queue SET floor = ?, scheduled_floor = ?, messages = 0, delayed = 0, bytes = 0 WHERE id = ?",
        (top, last_scheduled, number),
    )
    for consumer in of_queue(connection, number):
        if consumer.outstanding or consumer.fresh:
            consumer.outstanding = consumer.retrying = 0
            consumer.passed = consumer.for_all
            begin_epoch(connection, consumer)
        consumer.frontier = top
        save(connection, consumer)
    note_sweep(connection, number, "floor", upto=top)
    if delayed:
        note_sweep(connection, number, "scheduled", upto=last_scheduled)
    return int(messages + delayed)


def end_passed(tx: Transaction, queue: int, after: int, upto: int, *, may_mark: bool) -> None:
    """End the messages between two positions that nobody wants any more: a consumer has passed them, or is gone.

    Args:
        tx: The transaction.
        queue: The queue's number.
        after: They come after this position.
        upto: The position of the last one.
        may_mark: Whether nothing is kept that no consumer ever wanted; see `wants_the_oldest`.
    """
    connection = tx.connection
    ((top, messages, delayed, consumers, passed, outstanding),) = connection.execute(
        "SELECT q.top, q.messages, q.delayed, q.consumers, "
        "(SELECT min(frontier) FROM consumer c WHERE c.queue = q.id), "
        "(SELECT sum(outstanding) FROM consumer c WHERE c.queue = q.id) FROM queue q WHERE q.id = ?",
        (queue,),
    ).fetchall()
    if not consumers or not messages:
        return
    if (seconds := keep_s(connection, queue)) > 0:
        if upto > after:
            keep_run(connection, queue, after + 1, upto, seconds)
        return
    if may_mark and passed >= top and not outstanding and not delayed:
        connection.execute("UPDATE queue SET floor = top, messages = 0, bytes = 0 WHERE id = ?", (queue,))
        note_sweep(connection, queue, "floor", upto=top)
    elif upto > after:
        note_sweep(connection, queue, "between", after=after, upto=upto)


def note_sweep(
    connection: sqlite3.Connection,
    queue: int,
    kind: str,
    *,
    after: int = 0,
    upto: int = 0,
    consumer: int | None = None,
) -> None:
    """Note work that is left to be done in steps, now or after a kill."""
    connection.execute(
        "INSERT INTO sweep (queue, consumer, kind, position, upto) VALUES (?, ?, ?, ?, ?)",
        (queue, consumer, kind, after, upto),
    )


def _note_loss(consumer: ConsumerState, missed: Missed) -> None:
    consumer.lost_first = min(consumer.lost_first, missed.first) if consumer.lost else missed.first
    consumer.lost_last = max(consumer.lost_last, missed.last)
    consumer.lost += missed.fresh + missed.outstanding


def _print(connection: sqlite3.Connection, queue: int) -> _Print:
    """Return what changes whenever a message is removed, or a consumer is done with one, comes, moves or goes."""
    ((removed, floor),) = connection.execute("SELECT top - messages, floor FROM queue WHERE id = ?", (queue,))
    consumers = connection.execute(
        "SELECT id, epoch, frontier, outstanding, retrying FROM consumer WHERE queue = ? ORDER BY id", (queue,)
    ).fetchall()
    return removed, floor, *consumers
