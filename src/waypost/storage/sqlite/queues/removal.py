"""Removes messages from a queue: settled by all, dropped by a limit, expired, or purged."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection

from waypost.storage.sqlite.bodies import MESSAGE_SIZE
from waypost.storage.sqlite.queues.consumers import ConsumerState, of_queue, save
from waypost.storage.sqlite.queues.keeping import keep, keep_s

__all__ = ["drop", "end_unwanted", "lose", "remove_unwanted", "unwanted_between"]

# What is wanted by nobody: all consumers it is for have passed it, and it is outstanding at none.
_UNWANTED = (
    # With the sign, SQLite looks the positions up one by one, and does not go through all beyond the floor.
    "queue = :queue AND +position > (SELECT floor FROM queue q WHERE q.id = :queue) AND CASE WHEN consumer IS NULL "
    "THEN position <= (SELECT coalesce(min(frontier), :all) FROM consumer c WHERE c.queue = :queue) "
    "ELSE position <= coalesce((SELECT frontier FROM consumer c WHERE c.id = message.consumer AND c.queue = :queue), "
    ":all) END "
    "AND NOT EXISTS (SELECT 1 FROM outstanding o WHERE o.queue = :queue AND o.position = message.position)"
)
_AMONG = "position IN (SELECT value FROM json_each(:positions))"
# What was settled later than at a time, and is kept for that.
_SETTLED_SINCE = (
    "SELECT 1 FROM settled s WHERE s.queue = :queue AND s.first <= message.position AND s.last >= message.position "
    "AND s.at > :settled_at"
)
_ALL = (1 << 63) - 1


def remove_unwanted(connection: sqlite3.Connection, queue: int, positions: Collection[int]) -> None:
    """Remove messages that no consumer wants any more, or keep them for a while if the queue does.

    The caller has saved the consumers.
    """
    if not positions:
        return
    values = {"queue": queue, "positions": json.dumps([*positions]), "all": _ALL}
    seconds = keep_s(connection, queue)
    if seconds > 0:
        found = connection.execute(
            f"SELECT position FROM message WHERE {_UNWANTED} AND {_AMONG} ORDER BY position", values
        ).fetchall()
        keep(connection, queue, [position for (position,) in found], seconds)
    elif not _remove_run(connection, queue, positions):
        _remove(connection, f"{_UNWANTED} AND {_AMONG}", values)


def end_unwanted(
    connection: sqlite3.Connection, queue: int, positions: Collection[int], *, settled_at: float | None = None
) -> None:
    """Remove those of some messages that no consumer wants, whether the queue keeps such messages or not.

    Args:
        connection: The writer's connection.
        queue: The queue's number.
        positions: The positions.
        settled_at: Leave those that were settled later than at this time; ``None`` for none.
    """
    if positions:
        values = {"queue": queue, "positions": json.dumps([*positions]), "all": _ALL, "settled_at": settled_at}
        chosen = f"{_UNWANTED} AND {_AMONG}"
        _remove(connection, chosen if settled_at is None else f"{chosen} AND NOT EXISTS ({_SETTLED_SINCE})", values)


def unwanted_between(
    connection: sqlite3.Connection, queue: int, first: int, last: int, size: str, most: int
) -> list[tuple[int, int]]:
    """Return the positions between two that no consumer wants, with the values of the expression ``size``."""
    values = {"queue": queue, "first": first, "last": last, "most": most, "all": _ALL}
    return connection.execute(
        f"SELECT position, {size} FROM message WHERE {_UNWANTED} AND position BETWEEN :first AND :last "
        "AND position > (SELECT floor FROM queue WHERE id = :queue) ORDER BY position LIMIT :most",
        values,
    ).fetchall()


def drop(connection: sqlite3.Connection, queue: int, positions: list[int]) -> list[tuple[ConsumerState, list[int]]]:
    """Remove messages, settled or not.

    Args:
        connection: The writer's connection.
        queue: The queue's number.
        positions: Positions of messages that are there, in order.

    Returns:
        The consumers that had not settled some of them, with which.
    """
    values = {"queue": queue, "positions": json.dumps(positions)}
    chosen = "queue = :queue AND position IN (SELECT value FROM json_each(:positions))"
    only: dict[int, int] = dict(
        connection.execute(f"SELECT position, consumer FROM message WHERE {chosen} AND consumer IS NOT NULL", values)
    )
    outstanding: dict[int, list[tuple[int, bool]]] = {}
    for consumer, position, is_retry in connection.execute(
        f"SELECT consumer, position, retry_at > 0 FROM outstanding WHERE {chosen}", values
    ):
        outstanding.setdefault(consumer, []).append((position, bool(is_retry)))
    connection.execute(f"DELETE FROM outstanding WHERE {chosen}", values)
    wanting: list[tuple[ConsumerState, list[int]]] = []
    for one in of_queue(connection, queue):
        held = outstanding.get(one.ledger, [])
        fresh = [
            position for position in positions if position > one.frontier and only.get(position, one.id) == one.id
        ]
        if held or fresh:
            one.outstanding -= len(held)
            one.retrying -= sum(is_retry for _, is_retry in held)
            one.passed += len(fresh)
            save(connection, one)
            wanting.append((one, sorted([*fresh, *(position for position, _ in held)])))
    _remove(connection, chosen, values)
    return wanting


def lose(connection: sqlite3.Connection, queue: int, positions: list[int]) -> list[str]:
    """Remove messages that a limit ended, and note for each consumer what it lost.

    Returns:
        The names of the consumers that lost some.
    """
    losers: list[str] = []
    for consumer, missed in drop(connection, queue, positions):
        connection.execute(
            "UPDATE consumer SET lost_first = CASE WHEN lost > 0 THEN min(lost_first, ?1) ELSE ?1 END, "
            "lost_last = max(lost_last, ?2), lost = lost + ?3 WHERE id = ?4",
            (missed[0], missed[-1], len(missed), consumer.id),
        )
        losers.append(consumer.name)
    connection.execute("UPDATE queue SET dropped = dropped + ? WHERE id = ?", (len(positions), queue))
    return sorted(losers)


def _remove_run(connection: sqlite3.Connection, queue: int, positions: Collection[int]) -> bool:
    """Remove messages if they are a run that every consumer has settled, as most are; in half of the time.

    Returns:
        Whether they were. If not, nothing was removed.
    """
    first, last = min(positions), max(positions)
    if last - first + 1 != len(positions):
        return False
    values = {"queue": queue, "first": first, "last": last, "all": _ALL}
    ((messages, size),) = connection.execute(
        f"SELECT count(*), coalesce(sum({MESSAGE_SIZE}), 0) FROM message "
        "WHERE queue = :queue AND position BETWEEN :first AND :last AND consumer IS NULL "
        "AND (SELECT floor FROM queue WHERE id = :queue) < :first "
        "AND (SELECT coalesce(min(frontier), :all) FROM consumer WHERE queue = :queue) >= :last "
        "AND NOT EXISTS "
        "(SELECT 1 FROM outstanding WHERE queue = :queue AND position BETWEEN :first AND :last)",
        values,
    ).fetchall()
    if messages != len(positions):
        return False
    connection.execute("DELETE FROM message WHERE queue = :queue AND position BETWEEN :first AND :last", values)
    _count_removed(connection, queue, messages, size)
    return True


def _remove(connection: sqlite3.Connection, chosen: str, values: dict[str, object]) -> None:
    # Counted first and then deleted: two steps of SQLite however many they are, and not one for each.
    ((messages, size),) = connection.execute(
        f"SELECT count(*), coalesce(sum({MESSAGE_SIZE}), 0) FROM message WHERE {chosen}", values
    ).fetchall()
    if messages:
        connection.execute(f"DELETE FROM message WHERE {chosen}", values)
        _count_removed(connection, values["queue"], messages, size)


def _count_removed(connection: sqlite3.Connection, queue: object, messages: int, size: int) -> None:
    connection.execute(
        "UPDATE queue SET messages = messages - ?, bytes = bytes - ? WHERE id = ?", (messages, size, queue)
    )
