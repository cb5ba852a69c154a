"""Sessions and their memberships on disk, as jobs of the writer."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import replace

from waypost.errors import StorageError
from waypost.storage.journal_records import Membership, SessionRow
from waypost.storage.sqlite.jobs import Transaction
from waypost.storage.sqlite.journals.expiry import find_tombstone
from waypost.storage.sqlite.sums import session_sum, values_sum

__all__ = [
    "attach",
    "detach_all",
    "drop_left",
    "end",
    "find",
    "forget_all",
    "insert",
    "join",
    "keys",
    "leave",
    "mark",
    "note_stuck",
    "prove",
    "save",
    "some",
]

# One step of deleting is one job between others.
_STEP = 1000


def insert(tx: Transaction, store: str, journal: int, key: bytes, sid: str, data: bytes) -> int:
    """Store a new, attached session; returns its start."""
    start = tx.entries.top(journal)
    inserted = tx.connection.execute(
        "INSERT INTO session (journal, key, sid, start, proven, last, data, sum, marks) "
        "VALUES (?1, ?2, ?3, ?4, ?4, ?4, ?5, ?6, ?7) ON CONFLICT (journal, key) DO NOTHING",
        (journal, key, sid, start, data, session_sum(key, data), values_sum(sid, start, start, start)),
    )
    if not inserted.rowcount:
        raise StorageError(store, f"session {sid} is stored already")
    tx.connection.execute("DELETE FROM tombstone WHERE journal = ? AND key = ?", (journal, key))
    return start


def find(tx: Transaction, journal: int, key: bytes) -> SessionRow | None:
    """Look up a session, or the tombstone that it left."""
    found = tx.connection.execute(
        "SELECT id, sid, start, proven, last, data, expires_at, sum, marks, stuck_at, stuck_times FROM session "
        "WHERE journal = ? AND key = ?",
        (journal, key),
    ).fetchall()
    if not found:
        return find_tombstone(tx.connection, journal, key, tx.now)
    session, sid, start, proven, last, data, expires_at, data_sum, marks, stuck_at, stuck_times = found[0]
    memberships = tx.connection.execute(
        "SELECT room, since, until, sum FROM membership WHERE session = ? ORDER BY since, room", (session,)
    ).fetchall()
    rooms = tuple(Membership(*row) for *row, _ in memberships)
    expired = expires_at is not None and expires_at < tx.now
    damaged = (
        data_sum not in (None, session_sum(key, data))
        or marks not in (None, values_sum(sid, start, proven, last))
        or any(kept not in (None, values_sum(session, *row)) for *row, kept in memberships)
    )
    return SessionRow(key, sid, start, proven, last, data, expires_at, rooms, expired, damaged, stuck_at, stuck_times)


def some(tx: Transaction, journal: int, most: int) -> list[SessionRow]:
    """Look up some of a journal's sessions."""
    rows = tx.connection.execute("SELECT key FROM session WHERE journal = ? LIMIT ?", (journal, most)).fetchall()
    return [found for (key,) in rows if (found := find(tx, journal, key)) is not None]


def attach(tx: Transaction, journal: int, key: bytes) -> SessionRow | None:
    """Mark a session as attached, unless its time is over; returns it."""
    found = find(tx, journal, key)
    if found is None or found.expired or found.damaged:
        return None
    mark(tx, journal, key, None)
    return replace(found, expires_at=None)


def keys(connection: sqlite3.Connection, journal: int) -> set[bytes]:
    """Return the keys of all sessions of a journal."""
    return {key for (key,) in connection.execute("SELECT key FROM session WHERE journal = ?", (journal,))}


def mark(tx: Transaction, journal: int, key: bytes, expires_at: float | None) -> None:
    """Mark a session as away until it expires, or as in use."""
    tx.connection.execute(
        "UPDATE session SET expires_at = ? WHERE journal = ? AND key = ?", (expires_at, journal, key)
    )


def detach_all(connection: sqlite3.Connection, expires_at: float) -> None:
    """Mark every attached session as away."""
    connection.execute("UPDATE session SET expires_at = ? WHERE expires_at IS NULL", (expires_at,))


def end(tx: Transaction, journal: int, key: bytes) -> None:
    """Forget a session."""
    tx.connection.execute("DELETE FROM session WHERE journal = ? AND key = ?", (journal, key))


def forget_all(tx: Transaction, journal: int) -> None:
    """Remove a journal's sessions and tombstones."""
    tx.connection.execute("DELETE FROM session WHERE journal = ?", (journal,))
    tx.connection.execute("DELETE FROM tombstone WHERE journal = ?", (journal,))


def save(tx: Transaction, journal: int, key: bytes, data: bytes) -> None:
    """Replace a session's data."""
    tx.connection.execute(
        "UPDATE session SET data = ?, sum = ? WHERE journal = ? AND key = ?",
        (data, session_sum(key, data), journal, key),
    )


def note_stuck(tx: Transaction, journal: int, key: bytes, position: int, times: int) -> None:
    """Replace what a session notes of an event beyond which its client did not get."""
    tx.connection.execute(
        "UPDATE session SET stuck_at = ?, stuck_times = ? WHERE journal = ? AND key = ?",
        (position, times, journal, key),
    )


def prove(tx: Transaction, journal: int, proven: Mapping[bytes, tuple[int, int]]) -> None:
    """Move the proven positions of sessions forwards, with the last position up to each that was sent."""
    tx.connection.executemany(
        "UPDATE session SET proven = ?1, last = ?2, marks = values_sum(sid, start, ?1, ?2) "
        "WHERE journal = ?3 AND key = ?4 AND proven < ?1",
        [(position, last, journal, key) for key, (position, last) in proven.items()],
    )


def join(tx: Transaction, journal: int, key: bytes, rooms: Collection[str]) -> int:
    """Let a session join rooms; returns the position after which that counts."""
    top = tx.entries.top(journal)
    tx.connection.executemany(
        "INSERT INTO membership (session, room, since, journal, sum) "
        "SELECT id, ?1, ?2, ?3, values_sum(id, ?1, ?2, NULL) FROM session "
        "WHERE journal = ?3 AND key = ?4 AND NOT EXISTS ("
        "SELECT 1 FROM membership WHERE session = id AND room = ?1 AND until IS NULL)",
        [(room, top, journal, key) for room in rooms],
    )
    return top


def leave(tx: Transaction, journal: int, key: bytes, rooms: Collection[str]) -> int:
    """Let a session leave rooms; returns the last position that still counts."""
    top = tx.entries.top(journal)
    mine = "session = (SELECT id FROM session WHERE journal = ?2 AND key = ?3) AND room = ?4 AND until IS NULL"
    values = [(top, journal, key, room) for room in rooms]
    # Joined and left between two entries, it covers none.
    tx.connection.executemany(f"DELETE FROM membership WHERE {mine} AND since = ?1", values)
    tx.connection.executemany(
        f"UPDATE membership SET until = ?1, sum = values_sum(session, room, since, ?1) WHERE {mine}", values
    )
    return top


def drop_left(tx: Transaction, journal: int, oldest: int) -> int:
    """Remove some memberships that ended before the journal's oldest entry.

    Returns:
        Their number, 0 if none is left.
    """
    return tx.connection.execute(
        "DELETE FROM membership WHERE (session, room, since) IN (SELECT session, room, since FROM membership "
        "WHERE journal = ? AND until < ? LIMIT ?)",
        (journal, oldest - 1, _STEP),
    ).rowcount
