"""Begins an opening of a store's file, and recognises an older copy of the file.

Each opening has a name, its fence. The file says which opening may write to it, and how far it has come; the mark
beside the file says the same as of the last moment. After a clean close, and after most crashes, both agree. In doubt
no session can be proven complete, and all clients start anew. A copy of the whole directory is not recognised here;
the server recognises it by the offsets of clients.
"""

from __future__ import annotations

import secrets
import sqlite3
from dataclasses import dataclass, replace

from waypost.logs import fields, get_logger
from waypost.storage.generation import new_generation
from waypost.storage.sqlite.jobs import Transaction
from waypost.storage.sqlite.journals import sessions
from waypost.storage.sqlite.journals.entries import Appender
from waypost.storage.sqlite.journals.generations import forget_generations
from waypost.storage.sqlite.mark import Beside, Mark
from waypost.storage.sqlite.own_log import LogState
from waypost.storage.sqlite.queues.queues import begin_generations
from waypost.version import __version__

__all__ = ["begin_opening", "close_opening", "note_closing"]

_logger = get_logger(__name__)

# The fence while no opening may write.
_CLOSED = ""
_SCHEMA_VERSIONS = 1 << 30


@dataclass(frozen=True, slots=True)
class _Found:
    counted: int
    fence: str
    position: int
    copied_at: float | None
    schema: int


@dataclass(frozen=True, slots=True)
class Closed:
    """The last transaction of an opening.

    Attributes:
        counted: The count of openings and closings.
        position: The mark.
    """

    counted: int
    position: int


def close_opening(tx: Transaction) -> Closed:
    """End an opening in the file, with its last transaction."""
    tx.connection.execute("UPDATE owner SET token = ?", (_CLOSED,))
    return Closed(*_count(tx.connection, 0))


def begin_opening(
    connection: sqlite3.Connection, beside: Beside, log: LogState, store: str, now: float, reserve_bytes: int
) -> Mark:
    """Begin an opening; if the file may be an older copy, remove all sessions, so that clients start anew.

    Args:
        connection: The writer's connection, before there is a writer.
        beside: The count and the mark beside the file.
        log: What stood beside the file before it was opened.
        store: The store, as the log names it.
        now: The time on the store's clock, in seconds.
        reserve_bytes: The disk space that emits leave free, for other programs that publish.

    Returns:
        The mark of this opening, which is beside the file already.
    """
    noted, mark = beside.read()
    fence = new_generation()
    connection.execute("BEGIN IMMEDIATE")
    tx = Transaction(connection, Appender(connection), now)
    found = _find(connection)
    doubt = _doubt(found, noted, mark, log)
    if doubt:
        _start_anew(tx)
    counted, position = _count(connection, noted)
    connection.execute("UPDATE owner SET token = ?", (fence,))
    connection.execute("UPDATE opening SET copied_at = NULL, reserve_bytes = ?", (reserve_bytes,))
    # A copy that SQLite makes gets a version of its own, and so is told from the file.
    schema = secrets.randbelow(_SCHEMA_VERSIONS) + 2
    connection.execute(f"PRAGMA schema_version = {schema}")
    # Before the commit, so that a kill between the two leaves no doubt.
    beside.write(replace(mark or Mark(_CLOSED), next_fence=fence), flush=True)
    connection.execute("COMMIT")
    beside.write_count(counted)
    begun = Mark(fence, position=position, first_schema=schema, schema=schema)
    beside.write(begun, flush=True)
    if doubt:
        _logger.error(
            "%s: %s; what was kept since may be lost, and all clients start anew",
            store,
            doubt,
            extra=fields(store=store),
        )
    return _root(connection, beside, begun)


def _find(connection: sqlite3.Connection) -> _Found:
    # A migration makes the table without its row.
    connection.execute("INSERT INTO owner SELECT ? WHERE NOT EXISTS (SELECT 1 FROM owner)", (_CLOSED,))
    ((schema,),) = connection.execute("PRAGMA schema_version").fetchall()
    sql = "SELECT counted, token, mark, copied_at FROM opening, owner"
    ((counted, fence, position, copied_at),) = connection.execute(sql).fetchall()
    return _Found(counted, fence, position, copied_at, schema)


def note_closing(beside: Beside, mark: Mark, closed: Closed) -> None:
    """Note a clean end beside the file, after it is in the file.

    Args:
        beside: The count and the mark beside the file.
        mark: The last mark of the opening.
        closed: What the last transaction has written.
    """
    beside.write_count(closed.counted)
    beside.write(replace(mark, position=closed.position, is_sealed=True), flush=True)


def _count(connection: sqlite3.Connection, at_least: int) -> tuple[int, int]:
    ((counted, position),) = connection.execute(
        "UPDATE opening SET counted = max(counted, ?) + 1, mark = mark + 1, version = ? RETURNING counted, mark",
        (at_least, __version__),
    ).fetchall()
    return int(counted), int(position)


def _start_anew(tx: Transaction) -> None:
    for (journal,) in tx.connection.execute("SELECT id FROM journal").fetchall():
        tx.connection.execute("UPDATE journal SET generation = ? WHERE id = ?", (new_generation(), journal))
        sessions.forget_all(tx, journal)
        forget_generations(tx, journal)
    begin_generations(tx.connection)


def _root(connection: sqlite3.Connection, beside: Beside, mark: Mark) -> Mark:
    """Copy the log into the file, so that the file itself has this fence, and note that."""
    ((busy, _, _),) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    if busy:
        # A reader of another program is in the way; the next log will begin without it.
        return mark
    rooted = replace(mark, is_rooted=True, base=mark.position)
    beside.write(rooted)
    return rooted


def _doubt(found: _Found, noted: int, mark: Mark | None, log: LogState) -> str:
    """Return why a file may be an older copy of the one that was here; ``""`` if it is certainly not."""
    if log.is_foreign:
        return "is a copy that was put back"
    if found.copied_at is not None:
        return "is a copy that `waypost store backup` has made"
    if not found.counted:
        return "is empty, and another file was here before" if noted else ""
    if noted > found.counted or (mark is not None and found.position < mark.position):
        return "is an older copy of the file that was here"
    if found.fence == _CLOSED:
        # A file from another place that was closed lacks nothing. Version 0.1 does not tell how it ended.
        return ""
    if mark is None:
        return "was not closed, and has no mark beside it (`-owner`), as if it had come from another place"
    return _doubt_after_crash(found, mark, log)


def _doubt_after_crash(found: _Found, mark: Mark, log: LogState) -> str:
    if mark.next_fence and found.fence == mark.next_fence:
        # Killed in the middle of an opening, which had judged the file.
        return ""
    if found.fence != mark.fence:
        return "is another copy than the file that was here"
    # Another program that closes the file as the last one copies the log into it, and removes the log.
    is_same = mark.first_schema <= found.schema <= mark.schema
    if found.position == mark.position and not mark.is_sealed and not log.has_log and not is_same:
        return "was not closed, and its log is missing"
    return ""
