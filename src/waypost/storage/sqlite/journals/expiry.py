"""Sessions whose time has come, and the tombstones that they leave, as jobs of the writer."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from waypost.storage.base import MAX_TOMBSTONES, TOMBSTONE_S
from waypost.storage.journal_records import ExpiredSession, SessionRow
from waypost.storage.sqlite.jobs import Transaction
from waypost.storage.sqlite.sums import session_sum

__all__ = ["Forgotten", "expire", "find_tombstone", "forget_tombstones"]

# One step of deleting is one job between others.
_STEP = 1000


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A session that was just removed because its time was over.

    Attributes:
        journal: Its journal's number.
        key: Its key.
        session: The record for the application.
    """

    journal: int
    key: bytes
    session: ExpiredSession


def expire(tx: Transaction) -> list[Forgotten]:
    """Forget some of the sessions whose time has come; returns none if no more are there."""
    names = dict(tx.connection.execute("SELECT id, name FROM journal").fetchall())
    rows = tx.connection.execute(
        "DELETE FROM session WHERE id IN (SELECT id FROM session WHERE expires_at < ? LIMIT ?) "
        "RETURNING journal, key, sid, data, expires_at, sum",
        (tx.now, _STEP),
    ).fetchall()
    tx.connection.executemany(
        "INSERT OR REPLACE INTO tombstone (journal, key, sid, expired_at) VALUES (?, ?, ?, ?)",
        [(journal, key, sid, expired_at) for journal, key, sid, _, expired_at, _ in rows],
    )
    forgotten: list[Forgotten] = []
    for journal, key, sid, data, _, kept_sum in rows:
        is_sound = kept_sum in (None, session_sum(key, data))
        forgotten.append(Forgotten(journal, key, ExpiredSession(names[journal], sid, data if is_sound else b"")))
    return forgotten


def find_tombstone(connection: sqlite3.Connection, journal: int, key: bytes, now: float) -> SessionRow | None:
    """Return the tombstone of a session that was removed because its time was over, or ``None``."""
    found = connection.execute(
        "SELECT sid, expired_at FROM tombstone WHERE journal = ? AND key = ? AND expired_at >= ?",
        (journal, key, now - TOMBSTONE_S),
    ).fetchall()
    if not found:
        return None
    sid, expired_at = found[0]
    return SessionRow(key, sid, 0, 0, 0, b"", expired_at, (), expired=True)


def forget_tombstones(tx: Transaction, journal: int) -> int:
    """Forget some of a journal's tombstones that are too old or too many; returns how many, 0 if none is."""
    old = tx.connection.execute(
        "DELETE FROM tombstone WHERE (journal, key) IN "
        "(SELECT journal, key FROM tombstone WHERE journal = ? AND expired_at < ? LIMIT ?)",
        (journal, tx.now - TOMBSTONE_S, _STEP),
    ).rowcount
    beyond = tx.connection.execute(
        "DELETE FROM tombstone WHERE (journal, key) IN "
        "(SELECT journal, key FROM tombstone WHERE journal = ? ORDER BY expired_at DESC LIMIT ? OFFSET ?)",
        (journal, _STEP, MAX_TOMBSTONES),
    ).rowcount
    return old + beyond
