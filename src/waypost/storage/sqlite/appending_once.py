"""Appends entries with ids: each id once within its window, whichever server or program repeats it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from waypost.storage.outside import OutsideWrite
from waypost.storage.sqlite.arrivals import ArrivedWrite, do_once, tell_of
from waypost.storage.sqlite.jobs import Gathered, Transaction
from waypost.storage.sqlite.journals.journal import SqliteJournal
from waypost.storage.sqlite.writer import Writer

__all__ = ["OnceEntry", "append_once"]


class OnceEntry(NamedTuple):
    """An entry with an id; see `Store.append_once`."""

    journal: str
    record: bytes
    write_id: str
    window_s: float


class _Done(NamedTuple):
    """The outcome for an entry.

    Attributes:
        is_new: Whether it is no repeat.
        write: The write; ``None`` if there is nothing to tell.
    """

    is_new: bool
    write: ArrivedWrite | None = None


async def append_once(
    writer: Writer, journals: Mapping[str, SqliteJournal], wanted: OnceEntry, *, deferred: bool
) -> bool:
    """Append an entry, unless its id is remembered; returns whether it is new.

    Args:
        writer: The file's writer.
        journals: The journals that are open, by name.
        wanted: The entry.
        deferred: Whether writes to journals are reported before they are on disk.
    """

    def told(done: _Done) -> None:
        if done.write is not None:
            tell_of(journals, [done.write])

    together = _append_later if deferred else _append_now
    done = await writer.gather(together, wanted, len(wanted.record), told)
    if done.write is not None and not done.write.is_done:
        journal = journals.get(wanted.journal)
        if journal is not None:
            await journal.do_write(done.write.write)
    return done.is_new


def _append_now(tx: Transaction, jobs: list[Gathered[OnceEntry, _Done]]) -> None:
    _append(tx, jobs, deferred=False)


def _append_later(tx: Transaction, jobs: list[Gathered[OnceEntry, _Done]]) -> None:
    _append(tx, jobs, deferred=True)


def _append(tx: Transaction, jobs: list[Gathered[OnceEntry, _Done]], *, deferred: bool) -> None:
    for job in jobs:
        journal, record, write_id, window_s = job.request
        write = OutsideWrite("emit", journal, content=record)
        found = tx.connection.execute("SELECT id FROM journal WHERE name = ?", (journal,)).fetchall()
        if not found:
            # Nobody was ever in that namespace.
            job.result = _Done(is_new=True)
            continue
        arrived = do_once(tx, found[0][0], write, write_id, window_s, deferred=deferred)
        job.result = _Done(arrived is not None, arrived)
