"""Writes to journals that other programs have left in the file's outbox: done here, in the order of their commits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from waypost.logs import get_logger
from waypost.storage.journal_records import ExpiredSession
from waypost.storage.outside import OutsideWrite, decode_write
from waypost.storage.sqlite.jobs import Transaction
from waypost.storage.sqlite.journals.journal import SqliteJournal
from waypost.storage.sqlite.journals.matching import Matching, end_matching, join_matching, leave_matching
from waypost.storage.sqlite.queues.rows import Content, is_damaged

__all__ = ["ArrivedWrite", "Left", "do_once", "do_writes", "tell_of"]

_logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Left:
    """A row of the outbox that is a write to a journal.

    Attributes:
        deduplicate_s: The window in which a second write of its id is a repeat, in seconds.
        content: Its id, and the encoded write.
    """

    deduplicate_s: float
    content: Content


@dataclass(frozen=True, slots=True)
class ArrivedWrite:
    """A write that is to be done, or was done.

    Attributes:
        write: The write.
        ended: Key, sid and data of each session that it has ended.
        is_done: Whether it was done in the file. If not, its journal's handle does it.
    """

    write: OutsideWrite
    ended: Sequence[tuple[bytes, str, bytes]] = ()
    is_done: bool = True


def do_writes(tx: Transaction, rows: Sequence[Left], *, deferred: bool) -> list[ArrivedWrite]:
    """Do writes within a transaction, in their order; those that are repeats, or for nobody, are left out.

    Args:
        tx: The transaction.
        rows: The writes.
        deferred: Whether the journals' handles give the positions: then nothing is done but to find out what is left.
    """
    arrived: list[ArrivedWrite] = []
    for row in rows:
        write = _read(row)
        if write is None:
            continue
        found = tx.connection.execute("SELECT id FROM journal WHERE name = ?", (write.journal,)).fetchall()
        if not found:
            # Nobody was ever in that namespace; or it has no journal, which is told where that is chosen.
            continue
        ((journal,),) = found
        done = do_once(tx, journal, write, row.content.id, row.deduplicate_s, deferred=deferred)
        if done is not None:
            arrived.append(done)
    return arrived


def do_once(
    tx: Transaction, journal: int, write: OutsideWrite, write_id: str, window_s: float, *, deferred: bool
) -> ArrivedWrite | None:
    """Do a write, unless it is a repeat; then return ``None``.

    Args:
        tx: The transaction.
        journal: The journal's number.
        write: The write.
        write_id: Its id; empty for none.
        window_s: The window in which a second write of its id is a repeat, in seconds.
        deferred: As for `do_writes`.
    """
    if _is_repeat(tx, journal, write_id, window_s):
        return None
    return ArrivedWrite(write, is_done=False) if deferred else ArrivedWrite(write, _do(tx, journal, write))


def tell_of(journals: Mapping[str, SqliteJournal], arrived: Sequence[ArrivedWrite]) -> None:
    """Note writes that were done, in the event loop and in the order of commits.

    Args:
        journals: The journals that are open, by name. What the others have is read when they are opened.
        arrived: The writes.
    """
    for one in arrived:
        journal = journals.get(one.write.journal)
        if journal is not None and one.is_done:
            sessions = [ExpiredSession(journal.name, sid, data) for _, sid, data in one.ended]
            journal.arrived(one.write, [key for key, _, _ in one.ended], sessions)


def _read(row: Left) -> OutsideWrite | None:
    try:
        if not is_damaged(row.content):
            return decode_write(row.content.record)
        problem = "its checksum is another one"
    except msgspec.MsgspecError as error:
        problem = str(error)
    _logger.error("a write of another program is damaged, and dropped: %s", problem)
    return None


def _is_repeat(tx: Transaction, journal: int, write_id: str, window_s: float) -> bool:
    """Return whether a write of this id was done before; if not, note it. Queues have the numbers above 0."""
    if not write_id or window_s <= 0:
        return False
    noted = tx.connection.execute(
        "INSERT INTO deduplication (queue, id, position, accepted_at, until) VALUES (?1, ?2, 0, ?3, ?4) "
        "ON CONFLICT (queue, id) DO UPDATE SET accepted_at = ?3, until = ?4 WHERE until <= ?3",
        (-journal, write_id, tx.now, tx.now + window_s),
    )
    return not noted.rowcount


def _do(tx: Transaction, journal: int, write: OutsideWrite) -> Sequence[tuple[bytes, str, bytes]]:
    if write.kind == "emit":
        tx.entries.append(journal, write.content)
        return ()
    matching = Matching(journal, None if write.rooms is None else frozenset(write.rooms), frozenset(write.except_))
    if write.kind == "end":
        return end_matching(tx, matching)
    move = join_matching if write.kind == "join" else leave_matching
    move(tx, matching, write.moved)
    return ()
