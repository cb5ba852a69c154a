"""Journal entries on disk: appended and read as chunks. Runs in the store's threads."""

from __future__ import annotations

import sqlite3
import struct
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

from waypost.storage.base import Entry

__all__ = ["Appender", "bytes_before", "newest_records", "read_entries", "unpack_sizes"]

# A chunk is read whole; a reader that wants one entry of it should not pay for many.
_CHUNK_BYTES = 64 << 10
_CHUNK_ENTRIES = 512


@dataclass(slots=True)
class _Extent:
    """The positions of a journal, with the entries that are not flushed yet.

    ``total`` counts the bytes of every record ever appended.
    """

    top: int
    total: int
    records: list[bytes] = field(default_factory=list)
    pending_bytes: int = 0


class Appender:
    """The writer's side of all journals: gives positions, gathers records, inserts them as chunks.

    Args:
        connection: The writer's connection.
    """

    __slots__ = ("_connection", "_extents", "_now")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._extents: dict[int, _Extent] = {}
        self._now = 0.0

    def begin(self, now: float) -> None:
        """Note the wall time of the following appends, in seconds."""
        self._now = now

    def append(self, journal: int, record: bytes) -> None:
        """Assign the next position to a record; the next `flush` inserts it at the latest."""
        extent = self._extents.get(journal) or self._load(journal)
        extent.top += 1
        extent.records.append(record)
        extent.pending_bytes += len(record)
        if extent.pending_bytes >= _CHUNK_BYTES or len(extent.records) >= _CHUNK_ENTRIES:
            self._insert(journal, extent)

    def top(self, journal: int) -> int:
        """Return the last assigned position."""
        return (self._extents.get(journal) or self._load(journal)).top

    def total_bytes(self, journal: int) -> int:
        """Return the size of all records ever appended; nothing may wait for a `flush`."""
        return (self._extents.get(journal) or self._load(journal)).total

    def flush(self) -> None:
        """Insert the gathered records."""
        for journal, extent in self._extents.items():
            if extent.records:
                self._insert(journal, extent)

    def forget(self) -> None:
        """After a rollback: read the extents again when they are needed."""
        self._extents.clear()

    def forget_journal(self, journal: int) -> None:
        """Note that a journal was removed; no record may wait for a `flush`."""
        self._extents.pop(journal, None)

    def _insert(self, journal: int, extent: _Extent) -> None:
        records = extent.records
        self._connection.execute(
            "INSERT INTO chunk (journal, first, at, before, sizes, records) VALUES (?, ?, ?, ?, ?, ?)",
            (
                journal,
                extent.top - len(records) + 1,
                self._now,
                extent.total,
                struct.pack(f"<{len(records)}I", *map(len, records)),
                b"".join(records),
            ),
        )
        extent.total += extent.pending_bytes
        extent.pending_bytes = 0
        extent.records = []

    def _load(self, journal: int) -> _Extent:
        (row,) = self._connection.execute("SELECT top, bytes FROM journal WHERE id = ?", (journal,)).fetchall()
        extent = _Extent(*row)
        last = self._connection.execute(
            "SELECT first, before, sizes FROM chunk WHERE journal = ? ORDER BY first DESC LIMIT 1", (journal,)
        ).fetchall()
        if last:
            first, before, packed = last[0]
            sizes = unpack_sizes(packed)
            # Behind a gap, which a crash may leave, the last chunk is still the one before it.
            if first + len(sizes) > extent.top:
                extent = _Extent(first + len(sizes) - 1, before + sum(sizes))
        self._extents[journal] = extent
        return extent


def read_entries(
    connection: sqlite3.Connection, journal: int, after: int, upto: int, max_entries: int, max_bytes: int
) -> list[Entry]:
    """Read entries of ``(after, upto]`` in order, within limits.

    Returns:
        The entries; if the oldest ones are gone, they begin later than asked.
    """
    entries: list[Entry] = []
    size = 0
    rows = connection.execute(
        "SELECT first, sizes, records FROM chunk WHERE journal = ?1 AND first <= ?3 AND first >= coalesce("
        "(SELECT max(first) FROM chunk WHERE journal = ?1 AND first <= ?2), ?2) ORDER BY first",
        (journal, after + 1, upto),
    )
    for first, packed, records in rows:
        for position, record in enumerate(_split(packed, records), first):
            if position <= after:
                continue
            size += len(record)
            if position > upto or len(entries) == max_entries or (entries and size > max_bytes):
                return entries
            entries.append(Entry(position, record))
    return entries


def newest_records(connection: sqlite3.Connection, journal: int, oldest: int, max_bytes: int) -> list[bytes]:
    """Return the newest records of a journal, in order, from at the earliest a position and up to a size."""
    chunks: list[list[bytes]] = []
    size = 0
    for first, packed, records in connection.execute(
        "SELECT first, sizes, records FROM chunk WHERE journal = ? ORDER BY first DESC", (journal,)
    ):
        size += len(records)
        if size > max_bytes:
            break
        chunks.append(_split(packed, records)[max(0, oldest - first) :])
    return [record for chunk in reversed(chunks) for record in chunk]


def bytes_before(connection: sqlite3.Connection, journal: int, position: int, total: int) -> int:
    """Return the size of all records before a position, in bytes; ``total`` is that of all records ever."""
    found = connection.execute(
        "SELECT first, before, sizes FROM chunk WHERE journal = ? AND first <= ? ORDER BY first DESC LIMIT 1",
        (journal, position),
    ).fetchall()
    if not found:
        return total
    first, before, packed = found[0]
    return int(before + sum(unpack_sizes(packed)[: position - first]))


def unpack_sizes(sizes: bytes) -> tuple[int, ...]:
    """Return the sizes of a chunk's records, in bytes."""
    return struct.unpack(f"<{len(sizes) // 4}I", sizes)


def _split(packed: bytes, records: bytes) -> list[bytes]:
    ends = list(accumulate(unpack_sizes(packed), initial=0))
    return [records[start:end] for start, end in pairwise(ends)]
