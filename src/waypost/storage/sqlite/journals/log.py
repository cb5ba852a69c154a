"""The event loop's knowledge of a journal in a file: its positions, and its newest records."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from waypost.storage.sqlite.journals.entries import bytes_before, newest_records
from waypost.storage.sqlite.reader import Reader
from waypost.storage.tail import Tail

__all__ = ["Log", "Row", "load_log"]


@dataclass(frozen=True, slots=True)
class Row:
    """A journal's row in the file.

    Attributes:
        id: The journal's number.
        generation: The name of its history.
        top: Its newest position.
        oldest: The oldest position that is kept.
        total_bytes: The size of all records ever appended, in bytes.
        ends: The last position of each earlier generation.
    """

    id: int
    generation: str
    top: int
    oldest: int
    total_bytes: int
    ends: Mapping[str, int]


class Log:
    """Where a journal stands; told by the writer, in the order of writes.

    Args:
        row: The journal in the file.
        before: The size of all records before its oldest one, in bytes.
        tail: Its newest records, up to its top.
        holds: Whether entries are noted here before they are on disk; the tail holds them until then.

    Attributes:
        id: Its number in the file.
        generation: The name of its history.
        ends: Where earlier generations ended.
        top: Its newest position.
        oldest: The oldest position that is kept.
        tail: Its newest records.
    """

    __slots__ = ("_before", "_flushed", "_holds", "_total", "ends", "generation", "id", "oldest", "tail", "top")

    def __init__(self, row: Row, before: int, tail: Tail, *, holds: bool) -> None:
        self.id = row.id
        self.generation = row.generation
        self.ends = row.ends
        self.top = row.top
        self.oldest = row.oldest
        self.tail = tail
        self._total = row.total_bytes
        self._before = before
        self._holds = holds
        self._flushed = row.top

    @property
    def size_bytes(self) -> int:
        """The size of the records that are kept."""
        return self._total - self._before

    @property
    def on_disk(self) -> int:
        """The position up to which entries are on disk for certain."""
        return self._flushed if self._holds else self.top

    def committed(self, record: bytes) -> int:
        """Note the next entry; returns its position."""
        self.top += 1
        self._total += len(record)
        self.tail.append(record)
        return self.top

    def flushed(self, entries: int) -> None:
        """Note that this many more of the held entries are on disk."""
        self._flushed += entries
        self.tail.release(self._flushed)

    def trimmed(self, oldest: int, before: int) -> None:
        """Note that the entries before a position are removed; ``before`` is their size in bytes."""
        self.oldest = oldest
        self._before = before
        self.tail.drop_before(oldest)


async def load_log(row: Row, reader: Reader, *, tail_bytes: int, holds: bool) -> Log:
    """Read a journal's newest records into memory, and the size of its records.

    Args:
        row: The journal in the file.
        reader: Reads from the file.
        tail_bytes: The bytes of its newest records that memory keeps.
        holds: Whether memory keeps entries at least until they are on disk.
    """

    def load(connection: sqlite3.Connection) -> tuple[int, list[bytes]]:
        before = bytes_before(connection, row.id, row.oldest, row.total_bytes)
        return before, newest_records(connection, row.id, row.oldest, tail_bytes)

    # After a restart everyone comes back at once, and is served from here.
    before, records = await reader.run(load)
    tail = Tail(row.top - len(records), max_bytes=tail_bytes, holds=holds)
    for record in records:
        tail.append(record)
    return Log(row, before, tail, holds=holds)
