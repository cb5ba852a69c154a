"""Large records, which stand in a table of their own.

In a table WITHOUT ROWID, SQLite keeps about 2,000 bytes of a row in its page, and takes whole pages for the rest: a
record of 2,100 bytes would take 9,300. The table ``body`` keeps up to 8,150 bytes in a page, and shares the page.
A row with a body has an empty record; a trigger removes the body with the row.
"""

from __future__ import annotations

import sqlite3

__all__ = ["LARGE_BYTES", "MESSAGE_RECORD", "MESSAGE_SIZE", "SCHEDULED_SIZE", "keep_body", "record_of"]

LARGE_BYTES = 1_900
"""A row with more bytes than this has a body."""


def record_of(row: str, column: str = "record") -> str:
    """Return the SQL expression for the record of a row; it is NULL if the body is missing.

    Args:
        row: The name that the statement gives to the table.
        column: The column of the record.
    """
    body = f"SELECT b.record FROM body b WHERE b.id = {row}.body"
    return f"CASE WHEN {row}.body IS NULL THEN {row}.{column} ELSE ({body}) END"


MESSAGE_RECORD = record_of("m")
"""The SQL expression for the record of a message ``m``."""

MESSAGE_SIZE = "coalesce(size, length(record))"
"""The SQL expression for the bytes that a message counts for."""

SCHEDULED_SIZE = "length(record) + coalesce(length(CAST(headers AS BLOB)), 0)"
"""The SQL expression for the bytes that a message counts for until it is due."""


def keep_body(connection: sqlite3.Connection, record: bytes) -> int:
    """Store a large record; returns its number."""
    number = connection.execute("INSERT INTO body (record) VALUES (?)", (record,)).lastrowid
    assert number is not None
    return number
