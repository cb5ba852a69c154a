"""Trimming journals to their retention, as jobs of the writer."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from waypost.storage.journal_records import Retention
from waypost.storage.sqlite.jobs import Transaction
from waypost.storage.sqlite.journals.entries import bytes_before, unpack_sizes

__all__ = ["Trimmed", "trim_entries"]

# One step is one job between others.
_TRIM_CHUNKS = 1000
_TRIM_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Trimmed:
    """The result of one step of trimming.

    Attributes:
        oldest: The oldest position that is kept now.
        before: The size of all records before it, in bytes.
        entries: The number of removed entries.
        more: Whether there may be more to trim.
    """

    oldest: int
    before: int
    entries: int
    more: bool


def trim_entries(tx: Transaction, journal: int, retention: Retention) -> Trimmed:
    """Take one step of trimming a journal to its retention, of bounded work.

    An entry is gone when ``oldest`` has passed it; its chunk's row is deleted when all its entries are gone.
    """
    connection = tx.connection
    tx.entries.flush()
    found = connection.execute("SELECT oldest FROM journal WHERE id = ?", (journal,)).fetchall()
    if not found:
        return Trimmed(0, 0, 0, more=False)  # dropped since it was listed
    ((former,),) = found
    top, total = tx.entries.top(journal), tx.entries.total_bytes(journal)
    oldest = max(former, top - retention.max_entries + 1)
    beyond = seen_bytes = 0
    more = False
    rows = connection.execute(
        "SELECT first, at, before, sizes FROM chunk WHERE journal = ? ORDER BY first LIMIT ?",
        (journal, _TRIM_CHUNKS),
    ).fetchall()
    for first, at, start, packed in rows:
        sizes = unpack_sizes(packed)
        end = first + len(sizes)
        if at < tx.now - retention.max_age_s:
            oldest = max(oldest, end)
        else:
            starts = enumerate(accumulate(sizes[:-1], initial=start), first)
            oldest = max(oldest, next((one for one, size in starts if total - size <= retention.max_bytes), end))
        if oldest < end:
            break
        beyond = end
        seen_bytes += sum(sizes)
        if seen_bytes > _TRIM_BYTES:
            more = True
            break
    else:
        more = len(rows) == _TRIM_CHUNKS
    bytes_gone = bytes_before(connection, journal, oldest, total)
    if oldest > former or beyond:
        connection.execute("DELETE FROM chunk WHERE journal = ? AND first < ?", (journal, beyond))
        connection.execute(
            "UPDATE journal SET oldest = ?, top = ?, bytes = ? WHERE id = ?", (oldest, top, total, journal)
        )
    return Trimmed(oldest, bytes_gone, oldest - former, more)
