"""Consumers that come, move and go, as jobs of the writer."""

from __future__ import annotations

import secrets
import sqlite3

from waypost.storage.queue_records import ConsumerRow, ExpiredConsumer, FromPosition, FromTime, Place
from waypost.storage.sqlite.jobs import Transaction
from waypost.storage.sqlite.queues.consumers import ConsumerState, begin_epoch, consumer_info, find, save
from waypost.storage.sqlite.queues.marks import end_passed, note_sweep, wants_the_oldest
from waypost.storage.sqlite.queues.queues import make_queue
from waypost.storage.sqlite.queues.sweeps import sweep_soon

__all__ = ["add", "expire", "forget_loss", "pause", "remove", "seek"]

# One step of expiring is one job between others.
_STEP = 100
_LEDGER_BITS = 62


def add(tx: Transaction, queue: str, name: str, start: Place) -> ConsumerRow:
    """Return a consumer, made if need be, and in use either way."""
    consumer = find(tx.connection, queue, name)
    if consumer is None:
        consumer = _make(tx, queue, name)
        _place(tx.connection, consumer, start)
    consumer.active_at = tx.now
    save(tx.connection, consumer)
    return consumer_info(tx.connection, consumer)


def seek(tx: Transaction, consumer: ConsumerState, place: Place) -> bool:
    """Move a consumer to a place, in a new epoch; returns whether what nobody wants now may end with one mark."""
    connection = tx.connection
    may_mark = wants_the_oldest(connection, consumer)
    begin_epoch(connection, consumer)
    former = consumer.frontier
    _let_go_of_outstanding(connection, consumer)
    consumer.lost = consumer.lost_first = consumer.lost_last = 0
    _place(connection, consumer, place)
    moved = consumer.frontier
    connection.execute("DELETE FROM holding WHERE consumer = ?", (consumer.id,))
    save(connection, consumer)
    end_passed(tx, consumer.queue, max(former, consumer.floor), moved, may_mark=may_mark)
    sweep_soon(connection, consumer.queue)
    return may_mark


def remove(tx: Transaction, consumer: ConsumerState, *, soon: bool = True) -> bool:
    """Let a consumer be gone at once, and end what only it had not settled, unless it is the last one.

    Its row stays, where no query of a queue finds it, until what belongs to it was removed in steps.

    Args:
        tx: The transaction.
        consumer: The consumer.
        soon: Whether the first steps belong to this commit.

    Returns:
        Whether what nobody wants now may end with one mark.
    """
    connection, queue = tx.connection, consumer.queue
    may_mark = wants_the_oldest(connection, consumer)
    _let_go_of_outstanding(connection, consumer)
    connection.execute("DELETE FROM holding WHERE consumer = ?", (consumer.id,))
    connection.execute(
        "UPDATE consumer SET queue = -queue, name = CAST(id AS TEXT), ledger = ? WHERE id = ?",
        (consumer.ledger, consumer.id),
    )
    connection.execute(
        "UPDATE queue SET consumers = consumers - 1, dead = dead - ? WHERE id = ?", (consumer.dead, queue)
    )
    note_sweep(connection, queue, "consumer", consumer=consumer.id)
    end_passed(tx, queue, max(consumer.frontier, consumer.floor), consumer.top, may_mark=may_mark)
    if soon:
        sweep_soon(connection, queue)
    return may_mark


def pause(tx: Transaction, queue: str, consumer: ConsumerState | None, paused_until: float | None) -> None:
    """Note until when a consumer, or the whole queue, is paused."""
    table, number = ("consumer", consumer.id) if consumer is not None else ("queue", make_queue(tx, queue))
    tx.connection.execute(f"UPDATE {table} SET paused_until = ? WHERE id = ?", (paused_until, number))


def forget_loss(tx: Transaction, consumer: ConsumerState, upto: int) -> ConsumerRow:
    """Forget what a consumer lost, unless it has lost more since."""
    if consumer.lost_last <= upto:
        consumer.lost = consumer.lost_first = consumer.lost_last = 0
        save(tx.connection, consumer)
    return consumer_info(tx.connection, consumer)


def expire(
    tx: Transaction, limit: float, attached: frozenset[tuple[str, str]], after: int
) -> tuple[list[ExpiredConsumer], int]:
    """Remove some of the consumers that were last active before a time; returns them, and where to go on, or 0."""
    rows = tx.connection.execute(
        "SELECT c.id, q.name, c.name FROM consumer c JOIN queue q ON q.id = c.queue WHERE c.id > ? "
        # Those of a queue that was deleted have no name to be told of.
        "AND c.active_at < ? AND q.name > '' ORDER BY c.id LIMIT ?",
        (after, limit, _STEP),
    ).fetchall()
    expired: list[ExpiredConsumer] = []
    for _, queue, name in rows:
        consumer = None if (queue, name) in attached else find(tx.connection, queue, name)
        if consumer is not None:
            waiting = consumer.outstanding + consumer.fresh
            expired.append(ExpiredConsumer(queue, name, waiting, consumer.dead))
            remove(tx, consumer, soon=False)
    return expired, rows[-1][0] if len(rows) == _STEP else 0


def _make(tx: Transaction, queue: str, name: str) -> ConsumerState:
    """Make a consumer that wants nothing yet."""
    number = make_queue(tx, queue)
    ((epoch, top, for_all),) = tx.connection.execute(
        "UPDATE queue SET epochs = epochs + 1, consumers = consumers + 1 WHERE id = ? RETURNING epochs, top, for_all",
        (number,),
    ).fetchall()
    tx.connection.execute(
        "INSERT INTO consumer (queue, name, epoch, frontier, passed, active_at) VALUES (?, ?, ?, ?, ?, ?)",
        (number, name, epoch, top, for_all, tx.now),
    )
    made = find(tx.connection, queue, name)
    assert made is not None
    return made


def _place(connection: sqlite3.Connection, consumer: ConsumerState, place: Place) -> None:
    """Put a consumer at which nothing is outstanding before a place."""
    consumer.frontier = max(consumer.floor, min(_position_before(connection, consumer, place), consumer.top))
    consumer.passed = consumer.for_all - _count_after(connection, consumer)


def _position_before(connection: sqlite3.Connection, consumer: ConsumerState, place: Place) -> int:
    match place:
        case "oldest":
            return _oldest(connection, consumer) - 1
        case "new":
            return consumer.top
        case FromPosition(position):
            return max(0, position - 1)
        case FromTime(time):
            return _before_time(connection, consumer, time)


def _oldest(connection: sqlite3.Connection, consumer: ConsumerState) -> int:
    ((oldest,),) = connection.execute(
        "SELECT min(position) FROM message WHERE queue = ? AND position > ?", (consumer.queue, consumer.floor)
    ).fetchall()
    return consumer.top + 1 if oldest is None else int(oldest)


def _before_time(connection: sqlite3.Connection, consumer: ConsumerState, time: float) -> int:
    """Search for the position before the first message that got its position at a time or later."""
    low, high = _oldest(connection, consumer), consumer.top + 1
    while low < high:
        middle = (low + high) // 2
        rows = connection.execute(
            "SELECT position, enqueued_at FROM message WHERE queue = ? AND position >= ? ORDER BY position LIMIT 1",
            (consumer.queue, middle),
        ).fetchall()
        if not rows or rows[0][1] >= time:
            high = middle
        else:
            low = rows[0][0] + 1
    return low - 1


def _count_after(connection: sqlite3.Connection, consumer: ConsumerState) -> int:
    """Count the messages beyond a consumer's frontier that are for it; without reading them, if it can be helped."""
    if consumer.frontier >= consumer.top:
        return 0
    ((messages,),) = connection.execute("SELECT messages FROM queue WHERE id = ?", (consumer.queue,)).fetchall()
    ((others,),) = connection.execute(
        "SELECT count(*) FROM consumer c CROSS JOIN message m INDEXED BY message_consumer ON m.consumer = c.id "
        "WHERE c.queue = ?1 AND c.id <> ?2 AND m.queue = ?1 AND m.position > ?3",
        (consumer.queue, consumer.id, consumer.frontier),
    ).fetchall()
    oldest = _oldest(connection, consumer)
    if consumer.frontier < oldest:
        return int(messages - others)
    if messages == consumer.top - oldest + 1:
        return int(consumer.top - consumer.frontier - others)
    ((after,),) = connection.execute(
        "SELECT count(*) FROM message WHERE queue = ? AND position > ?", (consumer.queue, consumer.frontier)
    ).fetchall()
    return int(after - others)


def _let_go_of_outstanding(connection: sqlite3.Connection, consumer: ConsumerState) -> None:
    """Let nothing be outstanding at a consumer any more; the rows are removed in steps, with what nobody wants."""
    if consumer.outstanding:
        note_sweep(connection, consumer.queue, "ledger", upto=consumer.outstanding, consumer=consumer.ledger)
        # Never that of another consumer: those are positive, or as random as this.
        consumer.ledger = -1 - secrets.randbits(_LEDGER_BITS)
        connection.execute("UPDATE consumer SET ledger = ? WHERE id = ?", (consumer.ledger, consumer.id))
        consumer.outstanding = consumer.retrying = 0
