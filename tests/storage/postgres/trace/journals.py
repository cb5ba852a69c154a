"""Journals of the pure engine: rows of a log, and what hangs on them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from tests.storage.postgres.trace.sessions import Session

__all__ = ["Journal", "Row"]

_KEPT_ROWS_S: Final = 600.0


class Row(NamedTuple):
    """A row of a journal's log; the head is decoded, the record of an event as it came."""

    tick: int
    position: int
    node: int
    incarnation: int
    batch: int
    kind: int
    head: Any
    record: bytes
    bytes: int
    at: float


@dataclass(slots=True)
class Journal:
    """A journal.

    Attributes:
        name: Its name.
        generations: The names of its histories, each with its last position; ``None`` for the present one.
        rows: The rows that it keeps, from `first` on, and the newest one at least.
        first: The tick from which on it keeps them.
        trimmed: The first position that it keeps, and the bytes before it.
        sessions: Its sessions by key.
        tombstones: The sid and the end of those that expired.
        open_by: The nodes that have it open.
    """

    name: str
    generations: list[tuple[str, int | None]]
    rows: list[Row] = field(default_factory=list)
    first: int = 1
    trimmed: tuple[int, int] = (1, 0)
    sessions: dict[bytes, Session] = field(default_factory=dict)
    tombstones: dict[bytes, tuple[str, float]] = field(default_factory=dict)
    open_by: frozenset[int] = frozenset()

    def copy(self) -> Journal:
        """Return a journal that goes its own way."""
        return replace(
            self,
            generations=[*self.generations],
            rows=[*self.rows],
            sessions={**self.sessions},
            tombstones={**self.tombstones},
        )

    @property
    def end(self) -> Row:
        """The newest row."""
        return self.rows[-1] if self.rows else Row(0, 0, 0, 0, 0, 1, None, b"", 0, 0.0)

    def after(self, tick: int) -> list[Row]:
        """Return the rows after a tick."""
        return self.rows[max(0, tick + 1 - self.first) :]

    def add(self, at: float, mark: tuple[int, int, int], kind: int, head: Any = None, record: bytes = b"") -> Row:
        """Append a row."""
        end = self.end
        position, size = end.position + (kind == 0), end.bytes + len(record)
        self.rows.append(Row(end.tick + 1, position, *mark, kind, head, record, size, at))
        return self.rows[-1]

    def trim(self, now: float, limits: tuple[float, int, int], most: int) -> tuple[int, int, bool]:
        """Forget the first rows, as many as are beyond the limits: the age, the events, and their bytes."""
        max_age_s, max_entries, max_bytes = limits
        rows, end = self.rows, self.end
        gone = 0
        for n, row in enumerate(rows[:most], 1):
            is_beyond = (
                row.position <= end.position - max_entries or end.bytes - row.bytes + len(row.record) > max_bytes
            )
            if row.kind == 0 and (row.at < now - max_age_s or is_beyond):
                gone = n
        while gone < min(most, len(rows)) and rows[gone].kind != 0 and rows[gone].at < now - _KEPT_ROWS_S:
            gone += 1
        position = rows[gone - 1].position if gone else 0
        if not gone or (position < self.trimmed[0] and gone < 1000):
            return 0, 0, False
        events, size = position + 1 - self.trimmed[0], rows[gone - 1].bytes
        self.trimmed = position + 1, size
        self.first += gone
        tick = self.add(now, (0, 0, 0), 9, [position + 1, size]).tick
        del rows[:gone]
        return events, tick, gone >= most
