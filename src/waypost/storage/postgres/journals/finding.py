"""Looks sessions up: those that are asked for at the same time with one question."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from waypost.storage.journal_records import Membership, SessionRow
from waypost.storage.postgres.driver import Connection, Row
from waypost.storage.postgres.gathering import Gathered
from waypost.storage.postgres.journals.operations import Ordered, name_from

__all__ = ["Finder", "read_session"]

_QUERY = "SELECT key, result, data, tick FROM waypost.find_sessions_1($1, $2, $3)"


class _Found(msgspec.Struct):
    """A session as sql/40_sessions.sql returns it; a tombstone has only the first ones."""

    sid: str
    expires_at: float | None = None
    is_gone: bool = False
    start: int = 0
    proven: int = 0
    last: int = 0
    expired: bool = False
    damaged: bool = False
    stuck_at: int = 0
    stuck_times: int = 0
    rooms: list[tuple[str, int, int | None]] = []


def read_session(key: bytes, result: Any, data: bytes) -> SessionRow:
    """Return a session that the engine has returned.

    Args:
        key: Its key.
        result: What the engine says of it, decoded from JSON.
        data: Its data.
    """
    found = msgspec.convert(result, _Found)
    rooms = sorted((since, name_from(room), until) for room, since, until in found.rooms)
    return SessionRow(
        key,
        name_from(found.sid),
        found.start,
        found.proven,
        found.last,
        data,
        found.expires_at,
        tuple(Membership(room, since, until) for since, room, until in rooms),
        found.expired or found.is_gone,
        found.damaged,
        found.stuck_at,
        found.stuck_times,
    )


class Finder:
    """Looks up the sessions of one journal, after all writes that were asked for before, by any node.

    Args:
        journal: The journal.
    """

    __slots__ = ("_gathered", "_journal")

    def __init__(self, journal: Ordered) -> None:
        self._journal = journal
        self._gathered: Gathered[bytes, SessionRow] = Gathered(self._ask)

    async def find(self, key: bytes) -> SessionRow | None:
        """Look up one session. This node has then applied all that the answer has seen. May be cancelled.

        Raises:
            StorageError: The engine did not answer.
        """
        await self._journal.settled()
        return await self._gathered.find(key)

    async def some(self, most: int) -> list[SessionRow]:
        """Look up some of the journal's sessions. May be cancelled.

        Raises:
            StorageError: The engine did not answer.
        """
        await self._journal.settled()
        return [*(await self._ask(None, most)).values()]

    async def _ask(self, keys: Sequence[bytes] | None, most: int = 0) -> dict[bytes, SessionRow]:
        async def read(connection: Connection) -> list[Row]:
            return await connection.rows(_QUERY, self._journal.number, keys, most)

        rows = await self._journal.engine.read(read)
        await self._journal.caught_up(rows[0]["tick"])
        return {row["key"]: read_session(row["key"], json.loads(row["result"]), row["data"]) for row in rows[1:]}
