"""Reads entries of a journal by their positions."""

from __future__ import annotations

from typing import Final
from zlib import crc32

from waypost.storage.journal_records import Entry
from waypost.storage.postgres.driver import Connection

__all__ = ["DamagedEntry", "read_entries"]

_READ: Final = "SELECT * FROM waypost.read_1($1, $2, $3, $4, $5)"


class DamagedEntry(Exception):
    """An entry is not what was appended.

    Attributes:
        position: Its position.
    """

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.position = position


async def read_entries(
    connection: Connection, journal: int, after: int, upto: int, max_entries: int, max_bytes: int
) -> list[Entry]:
    """Read entries in order, up to one that is damaged.

    Args:
        connection: The connection.
        journal: The journal's number.
        after: Only entries after this position.
        upto: The last position.
        max_entries: The most entries.
        max_bytes: The most bytes together; the first entry is read in any case.

    Raises:
        DamagedEntry: The first entry is damaged.
        EngineGone: The connection broke.
        Refusal: The server said no.
    """
    rows = await connection.rows(_READ, journal, after, upto, min(max_entries, 1 << 31), min(max_bytes, 1 << 40))
    entries: list[Entry] = []
    for expected, row in enumerate(rows, after + 1):
        if row["position"] != expected:
            break
        record: bytes = row["record"]
        # What SQL has written has none.
        if row["sum"] >= 0 and crc32(record) != row["sum"]:
            if not entries:
                raise DamagedEntry(expected)
            break
        entries.append(Entry(expected, record))
    return entries
