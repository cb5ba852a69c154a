"""Positions that are reserved before they are assigned, for journals that report writes before they are on disk.

A reservation also marks its journal: if it still exists when the file is opened, the last writes may be lost.
"""

from __future__ import annotations

import sqlite3

from waypost.storage.generation import new_generation
from waypost.storage.sqlite.jobs import Transaction
from waypost.storage.sqlite.journals import sessions
from waypost.storage.sqlite.journals.entries import Appender
from waypost.storage.sqlite.journals.generations import forget_generations

__all__ = ["begin_beyond", "fork_unclean", "release_all", "reserve"]


def reserve(tx: Transaction, journal: int, upto: int) -> None:
    """Reserve a journal's positions up to one."""
    tx.connection.execute("UPDATE journal SET reserved = ? WHERE id = ?", (upto, journal))


def release_all(tx: Transaction) -> None:
    """Remove all reservations, with the last write of an opening: no write is lost then."""
    tx.connection.execute("UPDATE journal SET reserved = NULL WHERE reserved IS NOT NULL")


def fork_unclean(connection: sqlite3.Connection, now: float) -> list[str]:
    """Begin a new generation, after the reserved positions, in each journal whose last writes may be lost.

    Its sessions are removed, because none of them can be proven complete. No replay crosses the gap, so the entries
    before it are not kept; trimming removes them.

    Args:
        connection: The writer's connection, before there is a writer.
        now: The store's time, in seconds.

    Returns:
        The names of those journals.
    """
    connection.execute("BEGIN IMMEDIATE")
    tx = Transaction(connection, Appender(connection), now)
    rows = connection.execute("SELECT id, name, reserved FROM journal WHERE reserved IS NOT NULL").fetchall()
    for journal, _, reserved in rows:
        begin_beyond(tx, journal, max(reserved, tx.entries.top(journal)))
    connection.execute("COMMIT")
    return [name for _, name, _ in rows]


def begin_beyond(tx: Transaction, journal: int, top: int) -> int:
    """Begin a new generation of a journal after a position, without entries and sessions.

    Returns:
        The oldest position that is kept: the first one of the generation.
    """
    tx.connection.execute(
        "UPDATE journal SET generation = ?, oldest = ?, top = ?, bytes = ?, reserved = NULL WHERE id = ?",
        (new_generation(), top + 1, top, tx.entries.total_bytes(journal), journal),
    )
    tx.entries.forget_journal(journal)
    sessions.forget_all(tx, journal)
    forget_generations(tx, journal)
    return top + 1
