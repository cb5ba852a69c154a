"""Generations on disk: the names a journal's history has had, one an opening, and where each ended."""

from __future__ import annotations

from waypost.storage.sqlite.jobs import Transaction

__all__ = ["begin_generation", "forget_generations", "generation_ends"]

_KEPT = 1000


def begin_generation(tx: Transaction, journal: int, name: str, top: int) -> None:
    """Let a journal's generation end here, without loss, and begin another."""
    tx.connection.execute(
        "INSERT INTO generation (journal, name, ended) SELECT id, generation, ?2 FROM journal WHERE id = ?1",
        (journal, top),
    )
    tx.connection.execute("UPDATE journal SET generation = ? WHERE id = ?", (name, journal))
    tx.connection.execute(
        "DELETE FROM generation WHERE journal = ?1 AND id <= (SELECT id FROM generation WHERE journal = ?1 "
        "ORDER BY id DESC LIMIT 1 OFFSET ?2)",
        (journal, _KEPT),
    )


def forget_generations(tx: Transaction, journal: int) -> None:
    """Remove all earlier generations: no client may recover from one."""
    tx.connection.execute("DELETE FROM generation WHERE journal = ?", (journal,))


def generation_ends(tx: Transaction, journal: int) -> dict[str, int]:
    """Return where each earlier generation of a journal ended."""
    return dict(tx.connection.execute("SELECT name, ended FROM generation WHERE journal = ?", (journal,)).fetchall())
