"""Removes a journal without sessions, as jobs of the writer."""

from __future__ import annotations

from waypost.storage.sqlite.jobs import Transaction

__all__ = ["drop_part", "is_followed"]

# One step of deleting is one job between others.
_STEP = 1000


def is_followed(tx: Transaction, name: str) -> bool:
    """Return whether a journal has sessions."""
    query = "SELECT 1 FROM session JOIN journal ON journal.id = session.journal WHERE journal.name = ? LIMIT 1"
    return tx.connection.execute(query, (name,)).fetchone() is not None


def drop_part(tx: Transaction, name: str) -> int:
    """Remove a part of a journal, at last the journal itself; returns the number of rows, 0 when it is gone."""
    tx.entries.flush()
    found = tx.connection.execute("SELECT id FROM journal WHERE name = ?", (name,)).fetchall()
    if not found:
        return 0
    ((journal,),) = found
    for statement in (
        "DELETE FROM chunk WHERE journal = ?1 AND first IN (SELECT first FROM chunk WHERE journal = ?1 LIMIT ?2)",
        "DELETE FROM tombstone WHERE journal = ?1 AND key IN (SELECT key FROM tombstone WHERE journal = ?1 LIMIT ?2)",
        "DELETE FROM generation WHERE id IN (SELECT id FROM generation WHERE journal = ?1 LIMIT ?2)",
    ):
        deleted = tx.connection.execute(statement, (journal, _STEP)).rowcount
        if deleted:
            return deleted
    # Its number may be given to another one. What other programs have written once is noted under its negative.
    tx.connection.execute("DELETE FROM deduplication WHERE queue = ?", (-journal,))
    tx.entries.forget_journal(journal)
    return tx.connection.execute("DELETE FROM journal WHERE id = ?", (journal,)).rowcount
