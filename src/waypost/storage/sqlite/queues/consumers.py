"""A consumer's row in the file, and its public state."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from waypost.storage.queue_records import ConsumerRow, Loss

__all__ = ["ConsumerState", "begin_epoch", "consumer_info", "find", "of_queue", "page", "save"]

_COLUMNS = (
    "c.id, c.queue, c.name, c.epoch, c.frontier, c.passed, c.outstanding, c.retrying, c.settled, c.failed, "
    "c.redelivered, c.dead, c.lost, c.lost_first, c.lost_last, c.paused_until, c.active_at, "
    "q.generation, q.top, q.for_all, coalesce(c.ledger, c.id), q.floor"
)


@dataclass(slots=True)
class ConsumerState:
    """A consumer's row, with the columns of its queue that belong to its state.

    Attributes:
        id: The consumer's number.
        queue: The queue's number.
        name: The consumer's name.
        epoch: The consumer's epoch.
        frontier: The consumer has settled all messages up to this position except the outstanding ones, and none
            beyond.
        passed: ``for_all`` minus the number of messages beyond the frontier that are for this consumer.
        outstanding: The number of outstanding messages.
        retrying: The number of outstanding messages that wait for a retry.
        settled: The number of messages that the consumer has ever settled.
        failed: The number of failures ever counted.
        redelivered: The number of attempts that ended without an ack and led to another delivery.
        dead: The number of the consumer's dead letters.
        lost: The number of lost messages that were not reported yet.
        lost_first: The position of the first one.
        lost_last: The position of the last one.
        paused_until: The wall time at which the pause ends, in seconds; ``None`` without a pause.
        active_at: The store's time of the last use, in seconds.
        generation: The queue's generation.
        top: The queue's newest position.
        for_all: The number of messages for all consumers that the queue ever had.
        ledger: The number under which ``outstanding`` has the consumer's rows.
        floor: The position up to which all messages of the queue are gone, though not all of their rows.
    """

    id: int
    queue: int
    name: str
    epoch: int
    frontier: int
    passed: int
    outstanding: int
    retrying: int
    settled: int
    failed: int
    redelivered: int
    dead: int
    lost: int
    lost_first: int
    lost_last: int
    paused_until: float | None
    active_at: float
    generation: str
    top: int
    for_all: int
    ledger: int
    floor: int

    @property
    def fresh(self) -> int:
        """The number of messages beyond the frontier that are for the consumer."""
        return self.for_all - self.passed


def find(connection: sqlite3.Connection, queue: str, name: str) -> ConsumerState | None:
    """Look up a consumer."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM queue q JOIN consumer c ON c.queue = q.id AND c.name = ? WHERE q.name = ?",
        (name, queue),
    ).fetchall()
    return ConsumerState(*rows[0]) if rows else None


def of_queue(connection: sqlite3.Connection, queue: int) -> list[ConsumerState]:
    """Return all consumers of a queue."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM queue q JOIN consumer c ON c.queue = q.id WHERE q.id = ?", (queue,)
    ).fetchall()
    return [ConsumerState(*row) for row in rows]


def save(connection: sqlite3.Connection, consumer: ConsumerState) -> None:
    """Write back what may have changed of a consumer."""
    if consumer.fresh == 0:
        # Nothing beyond is for it, so that reading needs not look there.
        consumer.frontier = consumer.top
    connection.execute(
        "UPDATE consumer SET epoch = ?, frontier = ?, passed = ?, outstanding = ?, retrying = ?, settled = ?, "
        "failed = ?, redelivered = ?, dead = ?, lost = ?, lost_first = ?, lost_last = ?, active_at = ? WHERE id = ?",
        (
            consumer.epoch,
            consumer.frontier,
            consumer.passed,
            consumer.outstanding,
            consumer.retrying,
            consumer.settled,
            consumer.failed,
            consumer.redelivered,
            consumer.dead,
            consumer.lost,
            consumer.lost_first,
            consumer.lost_last,
            consumer.active_at,
            consumer.id,
        ),
    )


def begin_epoch(connection: sqlite3.Connection, consumer: ConsumerState) -> None:
    """Assign a consumer an epoch that its queue never had; the caller saves it."""
    ((consumer.epoch,),) = connection.execute(
        "UPDATE queue SET epochs = epochs + 1 WHERE id = ? RETURNING epochs", (consumer.queue,)
    ).fetchall()


def consumer_info(connection: sqlite3.Connection, consumer: ConsumerState) -> ConsumerRow:
    """Return a consumer's state."""
    lost = Loss(consumer.lost, consumer.lost_first, consumer.lost_last) if consumer.lost else None
    return ConsumerRow(
        consumer.name,
        consumer.generation,
        consumer.epoch,
        _cursor(connection, consumer),
        consumer.outstanding + consumer.fresh,
        consumer.retrying,
        consumer.settled,
        consumer.failed,
        consumer.redelivered,
        consumer.dead,
        lost,
        consumer.paused_until,
        consumer.active_at,
    )


def _cursor(connection: sqlite3.Connection, consumer: ConsumerState) -> int:
    """Return the position before the first message that a consumer has not settled."""
    if consumer.outstanding:
        ((first,),) = connection.execute(
            "SELECT min(position) FROM outstanding WHERE consumer = ? AND position > ?",
            (consumer.ledger, consumer.floor),
        ).fetchall()
        return int(first) - 1
    if consumer.fresh == 0:
        return consumer.top
    if consumer.fresh == consumer.top - consumer.frontier:
        return consumer.frontier
    ((first,),) = connection.execute(
        "SELECT position FROM message WHERE queue = ? AND position > ? AND (consumer IS NULL OR consumer = ?) "
        "ORDER BY position LIMIT 1",
        (consumer.queue, consumer.frontier, consumer.id),
    ).fetchall()
    return int(first) - 1


def page(connection: sqlite3.Connection, queue: str, after: str, most: int) -> list[ConsumerRow]:
    """Return the states of a queue's consumers by name."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM queue q JOIN consumer c ON c.queue = q.id AND c.name > ? WHERE q.name = ? "
        "ORDER BY c.name LIMIT ?",
        (after, queue, most),
    ).fetchall()
    return [consumer_info(connection, ConsumerState(*row)) for row in rows]
