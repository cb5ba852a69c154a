"""The outcomes of a consumer's messages, on disk: its frontier, and the outstanding messages before it.

The cost does not grow with the backlog.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence

from waypost.storage.queue_base import AT_ONCE, MAX_HISTORY
from waypost.storage.queue_records import Attempt, HistoryItem
from waypost.storage.sqlite.bodies import MESSAGE_RECORD
from waypost.storage.sqlite.queues.consumers import ConsumerState, save
from waypost.storage.sqlite.queues.removal import remove_unwanted

__all__ = ["bury", "pack_history", "retry", "settle", "unpack_history"]


def settle(connection: sqlite3.Connection, consumer: ConsumerState, positions: Collection[int], now: float) -> None:
    """Settle messages, and remove those that no consumer wants any more."""
    if consumer.floor:
        positions = [position for position in positions if position > consumer.floor]
    finished = _finish(connection, consumer, positions)
    consumer.settled += len(finished)
    consumer.active_at = now
    save(connection, consumer)
    remove_unwanted(connection, consumer.queue, finished)


def retry(connection: sqlite3.Connection, consumer: ConsumerState, attempts: Sequence[Attempt]) -> None:
    """Store the outcomes of attempts."""
    for attempt in attempts:
        if attempt.position <= consumer.floor:
            continue
        _pass(connection, consumer, attempt.position, set())
        row = _outstanding(connection, consumer, attempt.position)
        if row is None:
            continue
        history = _count(consumer, attempt, *row)
        consumer.retrying += row[2] == 0
        connection.execute(
            "UPDATE outstanding SET failures = ?, losses = ?, retry_at = ?, history = ?, breaks = ?, "
            "breaks_since = ?, deaths = ? WHERE consumer = ? AND position = ?",
            (
                attempt.failures,
                attempt.losses,
                max(attempt.retry_at, AT_ONCE),
                pack_history(history),
                attempt.breaks,
                attempt.breaks_since,
                attempt.deaths,
                consumer.ledger,
                attempt.position,
            ),
        )
    save(connection, consumer)


def bury(connection: sqlite3.Connection, consumer: ConsumerState, attempts: Sequence[Attempt]) -> None:
    """Settle messages and keep them as dead letters."""
    dead: list[int] = []
    for attempt in attempts:
        if attempt.position <= consumer.floor:
            continue
        _pass(connection, consumer, attempt.position, set())
        row = _outstanding(connection, consumer, attempt.position)
        if row is None:
            continue
        history = _count(consumer, attempt, *row)
        connection.execute(
            "INSERT INTO dead_letter (queue, consumer, position, id, key, enqueued_at, died_at, reason, failures, "
            "losses, history, exception, headers, sum, record) "
            "SELECT queue, ?, position, id, key, enqueued_at, ?, ?, ?, ?, ?, ?, "
            f"headers, sum, coalesce({MESSAGE_RECORD}, x'') FROM message m WHERE queue = ? AND position = ?",
            (
                consumer.id,
                attempt.at,
                attempt.reason,
                attempt.failures,
                attempt.losses,
                pack_history(history),
                attempt.exception,
                consumer.queue,
                attempt.position,
            ),
        )
        dead.append(attempt.position)
    buried = _finish(connection, consumer, dead)
    consumer.dead += len(buried)
    save(connection, consumer)
    connection.execute("UPDATE queue SET dead = dead + ? WHERE id = ?", (len(buried), consumer.queue))
    remove_unwanted(connection, consumer.queue, buried)


def pack_history(history: Sequence[HistoryItem]) -> str:
    """Return a history as the text that the file keeps."""
    return json.dumps([_packed(item) for item in history])


def _packed(item: HistoryItem) -> tuple[object, ...]:
    packed = (item.at, item.kind, item.reason)
    return packed if item.exception is None else (*packed, item.exception)


def unpack_history(packed: str | None) -> tuple[HistoryItem, ...]:
    """Read a history from the text that the file keeps."""
    try:
        return tuple(HistoryItem(*item) for item in json.loads(packed or "[]"))
    except (ValueError, TypeError):
        return (HistoryItem(0.0, "damaged", "the history can't be read"),)


def _finish(connection: sqlite3.Connection, consumer: ConsumerState, positions: Collection[int]) -> list[int]:
    """Let a consumer be done with messages; returns those that it was not done with before."""
    passed = [position for position in positions if position <= consumer.frontier]
    finished = _finish_outstanding(connection, consumer, passed) if consumer.outstanding and passed else []
    beyond = {position for position in positions if consumer.frontier < position <= consumer.top}
    if beyond:
        finished += _pass(connection, consumer, max(beyond), beyond)
    return finished


def _finish_outstanding(connection: sqlite3.Connection, consumer: ConsumerState, positions: list[int]) -> list[int]:
    chosen = "consumer = ? AND position IN (SELECT value FROM json_each(?))"
    values = (consumer.ledger, json.dumps(positions))
    ((found, retrying),) = connection.execute(
        f"SELECT json_group_array(position), coalesce(sum(retry_at > 0), 0) FROM outstanding WHERE {chosen}", values
    ).fetchall()
    finished: list[int] = json.loads(found)
    if finished:
        connection.execute(f"DELETE FROM outstanding WHERE {chosen}", values)
        consumer.outstanding -= len(finished)
        consumer.retrying -= retrying
    return finished


def _pass(connection: sqlite3.Connection, consumer: ConsumerState, upto: int, done: set[int]) -> list[int]:
    """Move the frontier, up to a position, to the last message there; what is not done is outstanding from now on.

    With nothing done, it moves only if there is a message at that very position.

    Returns:
        Those of the done ones that were there.
    """
    if upto <= consumer.frontier:
        return []
    chosen = "queue = ? AND position > ? AND position <= ? AND (consumer IS NULL OR consumer = ?)"
    values = (consumer.queue, consumer.frontier, upto, consumer.id)
    ((there,),) = connection.execute(f"SELECT count(*) FROM message WHERE {chosen}", values).fetchall()
    if there == len(done) == upto - consumer.frontier:
        consumer.frontier = upto
        consumer.passed += there
        return [*done]
    rows = connection.execute(
        f"SELECT position, key FROM message WHERE {chosen} ORDER BY position", values
    ).fetchall()
    while rows and done and rows[-1][0] not in done:
        rows.pop()
    if not rows or (not done and rows[-1][0] != upto):
        return []
    overtaken = [(consumer.ledger, position, consumer.queue, key) for position, key in rows if position not in done]
    connection.executemany("INSERT INTO outstanding (consumer, position, queue, key) VALUES (?, ?, ?, ?)", overtaken)
    consumer.outstanding += len(overtaken)
    consumer.passed += len(rows)
    consumer.frontier = rows[-1][0]
    return [position for position, _ in rows if position in done]


def _outstanding(
    connection: sqlite3.Connection, consumer: ConsumerState, position: int
) -> tuple[int, int, float, str | None] | None:
    """Return the failures, losses, retry time and history of a message that is outstanding."""
    rows = connection.execute(
        "SELECT o.failures, o.losses, o.retry_at, coalesce(o.history, m.history) FROM outstanding o "
        "JOIN message m ON m.queue = o.queue AND m.position = o.position WHERE o.consumer = ? AND o.position = ?",
        (consumer.ledger, position),
    ).fetchall()
    return rows[0] if rows else None


def _count(
    consumer: ConsumerState, attempt: Attempt, failures: int, losses: int, _retry_at: float, packed: str | None
) -> tuple[HistoryItem, ...]:
    """Count what an attempt has more than the one before; returns the history with it."""
    failed = max(0, attempt.failures - failures)
    consumer.failed += failed
    consumer.redelivered += failed + max(0, attempt.losses - losses)
    history = unpack_history(packed)
    item = HistoryItem(attempt.at, attempt.kind, attempt.reason, attempt.exception)
    return history if history[-1:] == (item,) else (*history, item)[-MAX_HISTORY:]
