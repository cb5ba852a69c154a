"""Sessions whose time is over, and what is left of sessions that is not needed any more."""

from __future__ import annotations

from collections.abc import Awaitable

from waypost.storage.base import MAX_TOMBSTONES
from waypost.storage.journal_records import ExpiredSession
from waypost.storage.postgres.driver import Connection
from waypost.storage.postgres.engine import Engine

__all__ = ["expire_sessions", "trim_proofs", "trim_sessions"]

_STEP = 1000
"""The most rows of one step, which is one statement between others of the journal."""


async def expire_sessions(engine: Engine) -> list[ExpiredSession]:
    """Remove the sessions whose time is over.

    Returns:
        Those of all nodes that this one is to tell of: whose home it is, or whose home is gone.

    Raises:
        StorageError: The engine did not answer.
    """

    async def work(connection: Connection) -> list[ExpiredSession]:
        journals: set[int] = set()
        while (journal := await connection.value("SELECT waypost.expire_sessions_1($1)", _STEP)) is not None:
            journals.add(journal)
        for journal in journals:
            await _repeat(connection, "waypost.limit_tombstones_1($1, $2, $3)", journal, MAX_TOMBSTONES, _STEP)
        await _repeat(connection, "waypost.forget_tombstones_1($1)", _STEP)
        rows = await connection.rows("SELECT journal, sid, data FROM waypost.take_expired_1($1)", engine.identity.id)
        return [ExpiredSession(row["journal"], row["sid"].decode(errors="replace"), row["data"]) for row in rows]

    return await engine.keep_up(work)


async def trim_sessions(engine: Engine, journal: int, oldest: int) -> None:
    """Remove memberships that ended before a journal's oldest entry.

    Raises:
        StorageError: The engine did not answer.
    """
    await _all(engine, "waypost.trim_memberships_1($1, $2, $3)", journal, oldest, _STEP)


async def trim_proofs(engine: Engine) -> None:
    """Remove what sessions have proven before they have proven more.

    Raises:
        StorageError: The engine did not answer.
    """
    await _all(engine, "waypost.trim_proofs_1($1)", _STEP)


async def _all(engine: Engine, call: str, *values: object) -> None:
    def work(connection: Connection) -> Awaitable[None]:
        return _repeat(connection, call, *values)

    await engine.keep_up(work)


async def _repeat(connection: Connection, call: str, *values: object) -> None:
    """Call a function until it has nothing more to remove."""
    while await connection.value(f"SELECT {call}", *values):
        pass
