"""The last time of each schedule, on disk."""

from __future__ import annotations

import sqlite3

from waypost.storage.sqlite.jobs import Transaction

__all__ = ["note", "noted"]


def noted(connection: sqlite3.Connection, name: str) -> float | None:
    """Return the wall time in seconds that was noted for a schedule; ``None`` if there is none."""
    rows = connection.execute("SELECT last_at FROM schedule WHERE name = ?", (name,)).fetchall()
    return float(rows[0][0]) if rows else None


def note(tx: Transaction, name: str, at: float) -> None:
    """Note a wall time in seconds for a schedule."""
    tx.connection.execute("INSERT OR REPLACE INTO schedule (name, last_at) VALUES (?, ?)", (name, at))
