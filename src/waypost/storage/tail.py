"""The newest records of a journal, in memory, found by position in constant time."""

from __future__ import annotations

import sys

from waypost.storage.journal_records import Entry

__all__ = ["Tail"]

# Below this, moving what is left to the front of the list costs less than asking whether to.
_COMPACT_AFTER = 1024


class Tail:
    """A run of records with dense positions that sheds its oldest ones at its limits.

    Attributes:
        first: The position of the oldest record it holds; one more than the newest's when it holds none.
    """

    __slots__ = ("_bytes", "_max_bytes", "_max_entries", "_records", "_released", "_shed", "first")

    def __init__(self, top: int, *, max_bytes: int, max_entries: int = sys.maxsize, holds: bool = False) -> None:
        """Begin empty.

        Args:
            top: The position before the first record that will be appended.
            max_bytes: The most its records may hold together, in bytes.
            max_entries: The most records to hold.
            holds: Whether to hold a record, whatever the limits, until it is released.
        """
        self._released = top if holds else sys.maxsize
        self.first = top + 1
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._records: list[bytes] = []
        self._shed = 0
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._records) - self._shed

    @property
    def size_bytes(self) -> int:
        """The size of the records it holds together."""
        return self._bytes

    def append(self, record: bytes) -> None:
        """Add the record of the next position; the oldest ones go if it would hold too much."""
        self._records.append(record)
        self._bytes += len(record)
        if self._bytes > self._max_bytes or len(self._records) - self._shed > self._max_entries:
            self._shed_oldest()

    def begin(self, top: int) -> None:
        """Begin anew, empty, after a position."""
        self._records.clear()
        self._shed = self._bytes = 0
        self.first = top + 1

    def release(self, position: int) -> None:
        """Hold records up to a position no longer, if there are too many."""
        self._released = position
        self._shed_oldest()

    def drop_before(self, position: int) -> int:
        """Let go of what stands before a position; returns how many went."""
        before = self.first
        while self.first < position and len(self):
            self._drop_oldest()
        return self.first - before

    def read(self, after: int, upto: int, *, max_entries: int, max_bytes: int) -> list[Entry]:
        """Return the entries in ``(after, upto]`` that it holds, within limits.

        Args:
            after: The position before the first one wanted; at least ``first - 1``.
            upto: The last position wanted.
            max_entries: The most entries to return.
            max_bytes: Stop before their records exceed this; the first one is always returned.
        """
        start = self._shed + after + 1 - self.first
        entries: list[Entry] = []
        size = 0
        for position, record in enumerate(
            self._records[start : start + max(0, min(upto - after, max_entries))], after + 1
        ):
            size += len(record)
            if size > max_bytes and entries:
                break
            entries.append(Entry(position, record))
        return entries

    def _shed_oldest(self) -> None:
        while self.first <= self._released and (self._bytes > self._max_bytes or len(self) > self._max_entries):
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        self._bytes -= len(self._records[self._shed])
        self._records[self._shed] = b""
        self._shed += 1
        self.first += 1
        if self._shed >= _COMPACT_AFTER and self._shed * 2 >= len(self._records):
            del self._records[: self._shed]
            self._shed = 0
