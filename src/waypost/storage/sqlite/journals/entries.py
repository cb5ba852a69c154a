"""Journal entries on disk: appended and read as chunks. Runs in the store's threads."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from waypost.storage.journal_records import Entry
from waypost.storage.sqlite.bodies import LARGE_BYTES, keep_body, record_of
from waypost.storage.sqlite.sums import entry_sum

__all__ = [
    "Appender",
    "DamagedEntry",
    "bytes_before",
    "damaged_positions",
    "ends_certainly",
    "newest_records",
    "read_entries",
    "unpack_sizes",
]

# A chunk is read whole; a reader that wants one entry of it should not pay for many.
_CHUNK_BYTES = 64 << 10
# So few that their sizes and sums stay in the chunk's row when its records do not.
_CHUNK_ENTRIES = 192
_RECORDS = record_of("c", "records")


@dataclass(slots=True)
class _Extent:
    """The positions of a journal, with the entries that are not flushed yet.

    ``total`` counts the bytes of every record ever appended.
    """

    top: int
    total: int
    records: list[bytes] = field(default_factory=list)
    sums: list[int] = field(default_factory=list)
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
        """Note the store's time of the following appends, in seconds."""
        self._now = now

    def append(self, journal: int, record: bytes) -> None:
        """Assign the next position to a record; the next `flush` inserts it at the latest."""
        extent = self._extents.get(journal) or self._load(journal)
        extent.top += 1
        extent.records.append(record)
        extent.sums.append(entry_sum(extent.top, record))
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
        records, layout = extent.records, f"<{len(extent.records)}I"
        joined, body = b"".join(records), None
        if len(joined) + 8 * len(records) > LARGE_BYTES:
            joined, body = b"", keep_body(self._connection, joined)
        self._connection.execute(
            "INSERT INTO chunk (journal, first, at, before, sizes, records, sums, body) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                journal,
                extent.top - len(records) + 1,
                self._now,
                extent.total,
                struct.pack(layout, *map(len, records)),
                joined,
                struct.pack(layout, *extent.sums),
                body,
            ),
        )
        extent.total += extent.pending_bytes
        extent.pending_bytes = 0
        extent.records, extent.sums = [], []

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


class DamagedEntry(Exception):
    """An entry in the file is not what was appended, or is missing.

    Attributes:
        position: The entry's position.
    """

    def __init__(self, position: int) -> None:
        super().__init__(f"entry {position} is damaged")
        self.position = position


def read_entries(
    connection: sqlite3.Connection, journal: int, after: int, upto: int, max_entries: int, max_bytes: int
) -> list[Entry]:
    """Read entries of ``(after, upto]`` in order, within limits, up to the first damaged one.

    Returns:
        The entries; none if the first of them was trimmed.

    Raises:
        DamagedEntry: Entry ``after + 1`` is damaged.
    """
    entries: list[Entry] = []
    size = 0
    rows = connection.execute(
        f"SELECT first, sizes, sums, {_RECORDS} FROM chunk c WHERE journal = ?1 AND first <= ?3 "
        "AND first >= coalesce((SELECT max(first) FROM chunk WHERE journal = ?1 AND first <= ?2), ?2) ORDER BY first",
        (journal, after + 1, upto),
    )
    for row in rows:
        for entry in _sound_entries(*row, after=after):
            if entry.position != after + 1 + len(entries):
                break
            size += len(entry.record)
            if entry.position > upto or len(entries) == max_entries or (entries and size > max_bytes):
                return entries
            entries.append(entry)
        if not entries or entries[-1].position != row[0] + len(row[1]) // 4 - 1:
            break
    if not entries and after < upto:
        rows = connection.execute("SELECT 1 FROM journal WHERE id = ? AND oldest <= ?", (journal, after + 1))
        if rows.fetchall():
            raise DamagedEntry(after + 1)
    return entries


def newest_records(connection: sqlite3.Connection, journal: int, oldest: int, max_bytes: int) -> list[bytes]:
    """Return the newest records of a journal, in order, from at the earliest a position and up to a size.

    They begin behind the last one that is damaged or can't be read, so that reading it from the file tells of it.
    """
    chunks: list[list[bytes]] = []
    size, expected = 0, None
    for first, packed, sums, records in _readable(
        connection.execute(
            f"SELECT first, sizes, sums, {_RECORDS} FROM chunk c WHERE journal = ? ORDER BY first DESC", (journal,)
        )
    ):
        size += len(records or b"")
        sound = [entry.record for entry in _sound_entries(first, packed, sums, records, after=oldest - 1)]
        whole = len(packed) // 4 - max(0, oldest - first)
        if size > max_bytes or len(sound) < whole or expected not in (None, first + len(packed) // 4):
            break
        chunks.append(sound)
        expected = first
    return [record for chunk in reversed(chunks) for record in chunk]


def _readable(rows: Iterable[Any]) -> Iterator[Any]:
    """Return rows up to the first one whose page is damaged."""
    try:
        yield from rows
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise


def damaged_positions(connection: sqlite3.Connection, journal: int) -> Iterator[int]:
    """Return the positions of a journal's entries that are damaged or missing; of a hole its first."""
    ((expected,),) = connection.execute("SELECT oldest FROM journal WHERE id = ?", (journal,)).fetchall()
    for first, packed, sums, records in connection.execute(
        f"SELECT first, sizes, sums, {_RECORDS} FROM chunk c WHERE journal = ? ORDER BY first", (journal,)
    ):
        end = first + len(packed) // 4
        if end <= expected:
            continue
        if first > expected:
            yield expected
        expected = max(first, expected)
        for entry, is_sound in _checked_entries(first, packed, sums, records, after=expected - 1):
            if not is_sound:
                yield entry.position
            expected = entry.position + 1
        if expected < end:
            yield expected
        expected = end


def ends_certainly(connection: sqlite3.Connection, journal: int) -> bool:
    """Return whether the positions of a journal's newest entries are certain, though an entry may be damaged."""
    rows = connection.execute(
        f"SELECT first, sizes, sums, {_RECORDS} FROM chunk c WHERE journal = ? ORDER BY first DESC LIMIT 2",
        (journal,),
    ).fetchall()
    if not rows:
        return True
    first, packed, sums, _ = rows[0]
    if sums is not None and (len(sums) != len(packed) or not sums):
        return False
    if any(is_sound for _, is_sound in _checked_entries(*rows[0], after=0)):
        return True
    if len(rows) > 1:
        return bool(rows[1][0] + len(rows[1][1]) // 4 == first)
    ((oldest,),) = connection.execute("SELECT oldest FROM journal WHERE id = ?", (journal,)).fetchall()
    return bool(first <= oldest <= first + len(packed) // 4)


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


def _sound_entries(
    first: int, packed: bytes, sums: bytes | None, records: bytes | None, *, after: int
) -> Iterator[Entry]:
    """Return the entries of a chunk after a position, up to the first damaged one."""
    for entry, is_sound in _checked_entries(first, packed, sums, records, after=after):
        if not is_sound:
            return
        yield entry


def _checked_entries(
    first: int, packed: bytes, sums: bytes | None, records: bytes | None, *, after: int
) -> Iterator[tuple[Entry, bool]]:
    """Return the entries of a chunk after a position, and whether each is what was appended.

    Those of a version without sums are not checked. If the chunk can't be taken apart, it has none.
    """
    sizes = unpack_sizes(packed[: len(packed) // 4 * 4])
    if records is None or sum(sizes) != len(records) or (sums is not None and len(sums) != len(packed)):
        return
    kept_sums = None if sums is None else unpack_sizes(sums)
    end = 0
    for index, size in enumerate(sizes):
        start, end = end, end + size
        if first + index <= after:
            continue
        entry = Entry(first + index, records[start:end])
        yield entry, kept_sums is None or kept_sums[index] == entry_sum(entry.position, entry.record)
