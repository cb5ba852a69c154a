"""Counts openings and closings in the file and beside it, to recognise an older copy of the file.

An older copy that was restored has a smaller count than ``<path>-owner`` beside it. Everything after the copy is
lost, and no session can be proven complete. A copy without ``<path>-owner``, or of an opening that ended in a crash,
is not recognised here; the server recognises it by the offsets of clients.
"""

from __future__ import annotations

import os
import sqlite3

from waypost.storage.generation import new_generation
from waypost.storage.sqlite.jobs import Transaction
from waypost.storage.sqlite.journals import sessions
from waypost.storage.sqlite.journals.entries import Appender
from waypost.storage.sqlite.journals.generations import forget_generations
from waypost.storage.sqlite.queues.queues import begin_generations
from waypost.version import __version__

__all__ = ["count", "forget_lost", "note_count", "read_noted_count"]

_DIGITS = 20


def count(tx: Transaction, at_least: int = 0) -> int:
    """Count an opening or a closing in the file; returns the new count."""
    (counted,) = tx.connection.execute(
        "UPDATE opening SET counted = max(counted, ?) + 1, version = ? RETURNING counted", (at_least, __version__)
    ).fetchall()[0]
    return int(counted)


def note_count(owner: int, counted: int) -> None:
    """Write a count beside the file; after it is in the file, so that it is never ahead of its own file."""
    os.pwrite(owner, f"{counted:0{_DIGITS}}\n".encode(), 0)
    os.fsync(owner)


def read_noted_count(owner: int) -> int:
    """Return the count in ``<path>-owner``; 0 without one."""
    noted = os.pread(owner, _DIGITS, 0)
    return int(noted) if noted.isdigit() else 0


def forget_lost(connection: sqlite3.Connection, owner: int, now: float) -> bool:
    """Count this opening; if the file is an older copy, remove all sessions, so that clients start anew.

    Args:
        connection: The writer's connection, before there is a writer.
        owner: The descriptor of ``<path>-owner``.
        now: The wall time, in seconds.

    Returns:
        Whether the file is an older copy.
    """
    noted = read_noted_count(owner)
    connection.execute("BEGIN IMMEDIATE")
    tx = Transaction(connection, Appender(connection), now)
    (counted,) = connection.execute("SELECT counted FROM opening").fetchone()
    is_older = noted > int(counted)
    if is_older:
        for (journal,) in connection.execute("SELECT id FROM journal").fetchall():
            connection.execute("UPDATE journal SET generation = ? WHERE id = ?", (new_generation(), journal))
            sessions.forget_all(tx, journal)
            forget_generations(tx, journal)
        begin_generations(connection)
    counted = count(tx, noted)
    connection.execute("COMMIT")
    note_count(owner, counted)
    return is_older
