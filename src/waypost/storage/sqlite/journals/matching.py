"""Rooms joined and left by all sessions that match, as jobs of the writer.

The names of rooms go through temporary tables, since there may be more of them than a statement takes values.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass

from waypost.storage.sqlite.jobs import Transaction
from waypost.storage.sqlite.sums import add_functions

__all__ = ["Matching", "end_matching", "join_matching", "leave_matching", "prepare"]

_TABLES = """
PRAGMA temp_store = MEMORY;
CREATE TEMP TABLE asked (part INTEGER NOT NULL, room TEXT NOT NULL, PRIMARY KEY (part, room)) WITHOUT ROWID;
CREATE TEMP TABLE matching (session INTEGER PRIMARY KEY, sid TEXT NOT NULL);
CREATE TEMP TABLE concerned (session INTEGER, room TEXT, PRIMARY KEY (session, room)) WITHOUT ROWID;
"""
_ROOMS, _EXCEPT, _MOVED = range(3)

_ALIVE = "(s.expires_at IS NULL OR s.expires_at >= ?)"
_MEMBERS = "temp.asked a CROSS JOIN membership m ON m.journal = ? AND m.room = a.room AND m.until IS NULL"


@dataclass(frozen=True, slots=True)
class Matching:
    """Selects the sessions of a journal that are not expired, are in any of some rooms, and in none of others.

    Attributes:
        journal: The journal's number.
        rooms: The rooms, a session's own sid included; ``None`` for all sessions.
        except_: The other rooms.
    """

    journal: int
    rooms: frozenset[str] | None
    except_: frozenset[str]


def prepare(connection: sqlite3.Connection) -> None:
    """Make the temporary tables on the writer's connection, and the functions that its statements use."""
    connection.executescript(_TABLES)
    add_functions(connection)


def join_matching(tx: Transaction, matching: Matching, rooms: Collection[str]) -> int:
    """Let sessions join rooms; returns the position after which the change applies."""
    top = tx.entries.top(matching.journal)
    _find(tx, matching, rooms)
    tx.connection.execute(
        "INSERT INTO membership (session, room, since, journal, sum) "
        "SELECT c.session, c.room, ?1, ?2, values_sum(c.session, c.room, ?1, NULL) "
        "FROM temp.concerned c WHERE NOT EXISTS ("
        "SELECT 1 FROM membership m WHERE m.session = c.session AND m.room = c.room AND m.until IS NULL)",
        (top, matching.journal),
    )
    return top


def leave_matching(tx: Transaction, matching: Matching, rooms: Collection[str]) -> int:
    """Let sessions leave rooms; returns the last position before the change."""
    top = tx.entries.top(matching.journal)
    _find(tx, matching, rooms)
    theirs = "(session, room) IN (SELECT session, room FROM temp.concerned) AND until IS NULL"
    # Joined and left between two entries, it covers none.
    tx.connection.execute(f"DELETE FROM membership WHERE {theirs} AND since = ?", (top,))
    tx.connection.execute(
        f"UPDATE membership SET until = ?1, sum = values_sum(session, room, since, ?1) WHERE {theirs}", (top,)
    )
    return top


def end_matching(tx: Transaction, matching: Matching) -> list[tuple[bytes, str, bytes]]:
    """Forget sessions; returns the key, sid and data of each."""
    _find(tx, matching, ())
    ended = tx.connection.execute(
        "SELECT s.key, s.sid, s.data FROM temp.matching x JOIN session s ON s.id = x.session"
    ).fetchall()
    tx.connection.execute("DELETE FROM session WHERE id IN (SELECT session FROM temp.matching)")
    return ended


def _find(tx: Transaction, matching: Matching, moved: Collection[str]) -> None:
    """Leave in ``temp.concerned`` each session that matches with each room it may join or leave."""
    connection, journal = tx.connection, matching.journal
    for table in ("asked", "matching", "concerned"):
        connection.execute(f"DELETE FROM temp.{table}")
    parts = ((_ROOMS, matching.rooms or ()), (_EXCEPT, matching.except_), (_MOVED, moved))
    connection.executemany(
        "INSERT INTO temp.asked (part, room) VALUES (?, ?)", [(part, room) for part, names in parts for room in names]
    )
    into = "INSERT OR IGNORE INTO temp.matching (session, sid) SELECT s.id, s.sid FROM"
    if matching.rooms is None:
        connection.execute(f"{into} session s WHERE s.journal = ? AND {_ALIVE}", (journal, tx.now))
    else:
        connection.execute(
            f"{into} {_MEMBERS} JOIN session s ON s.id = m.session WHERE a.part = ? AND {_ALIVE}",
            (journal, _ROOMS, tx.now),
        )
        connection.execute(
            f"{into} temp.asked a CROSS JOIN session s ON s.journal = ? AND s.sid = a.room "
            f"WHERE a.part = ? AND {_ALIVE}",
            (journal, _ROOMS, tx.now),
        )
    connection.execute(
        f"DELETE FROM temp.matching WHERE session IN (SELECT m.session FROM {_MEMBERS} WHERE a.part = ?) "
        "OR sid IN (SELECT room FROM temp.asked WHERE part = ?)",
        (journal, _EXCEPT, _EXCEPT),
    )
    # A session never leaves the room of its own sid, so it need not join it either.
    connection.execute(
        "INSERT INTO temp.concerned (session, room) SELECT x.session, a.room FROM temp.matching x "
        "CROSS JOIN temp.asked a WHERE a.part = ? AND a.room <> x.sid",
        (_MOVED,),
    )
