"""Reads a store on PostgreSQL that no server uses."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from itertools import count
from typing import Final

from waypost.storage.copying.records import JournalCopy, SessionCopy, Table, Tombstone, convert
from waypost.storage.copying.records import Row as CopiedRow
from waypost.storage.postgres.driver import Connection, Row
from waypost.storage.postgres.queues.texts import from_store

__all__ = ["PostgresReading", "finish_work"]

_ROWS: Final = 500

_QUEUE = (
    "waypost.queue q CROSS JOIN LATERAL "
    "(SELECT * FROM waypost.queue_state WHERE queue = q.id ORDER BY n DESC LIMIT 1) s"
)
_LIVING = "JOIN waypost.queue q ON q.id = {0}.queue AND q.name IS NOT NULL"
_STATE = (
    "CROSS JOIN LATERAL (SELECT * FROM waypost.consumer_state WHERE consumer = c.id ORDER BY n DESC LIMIT 1) state"
)
_FLOOR = (
    "CROSS JOIN LATERAL (SELECT floor, scheduled_floor FROM waypost.queue_state WHERE queue = q.id "
    "ORDER BY n DESC LIMIT 1) s"
)
_ITS_OWN = (
    "({0}.consumer IS NULL OR EXISTS (SELECT FROM waypost.consumer c WHERE c.id = {0}.consumer AND c.queue = q.id))"
)
_OF_QUEUE = (
    *("id", "name", "generation", "paused_until", "settings"),
    *("max_messages", "max_bytes", "max_age_s", "overflow", "keep_settled_s"),
)
_PARTS: Final[dict[str, tuple[dict[str, str], str]]] = {
    "queue": ({name: f"q.{name}" for name in _OF_QUEUE}, f"{_QUEUE} WHERE q.name IS NOT NULL"),
    "consumer": (
        {"id": "c.id", "queue": "c.queue", "name": "c.name", "paused_until": "c.paused_until"},
        f"waypost.consumer c {_LIVING.format('c')} {_STATE}",
    ),
    "message": (
        {},
        f"waypost.message t {_LIVING.format('t')} {_FLOOR} WHERE t.position > s.floor AND {_ITS_OWN.format('t')}",
    ),
    "scheduled": (
        {},
        f"waypost.scheduled t {_LIVING.format('t')} {_FLOOR} WHERE t.number > s.scheduled_floor "
        f"AND {_ITS_OWN.format('t')}",
    ),
    "outstanding": (
        {"consumer": "c.id"},
        f"waypost.consumer c {_LIVING.format('c')} {_STATE} {_FLOOR} "
        "JOIN waypost.outstanding t ON t.ledger = state.ledger AND t.position > s.floor",
    ),
    "dead_letter": ({}, f"waypost.dead_letter t {_LIVING.format('t')} WHERE {_ITS_OWN.format('t')}"),
    "settled": ({}, f"waypost.settled t {_LIVING.format('t')}"),
    "deduplication": ({}, f"waypost.deduplication t {_LIVING.format('t')}"),
    "schedule": ({}, "waypost.schedule t"),
    "answer": (
        {"message": "convert_from(t.message, 'UTF8')", "account": "convert_from(t.account, 'UTF8')"},
        "waypost.answer t",
    ),
}
_DEFAULT: Final = {"queue": "s", "consumer": "state"}


class PostgresReading:
    """A store on PostgreSQL that is read; see `waypost.storage.copying.records.Reading`.

    Args:
        connection: A connection, within a transaction.
        now: The store's time.
        orphan_ttl_s: Seconds for which a session is kept that a crash left attached.
    """

    def __init__(self, connection: Connection, now: float, orphan_ttl_s: float) -> None:
        self._connection = connection
        self._now = now
        self._orphan_ttl_s = orphan_ttl_s
        self._numbers = count()

    async def journals(self) -> AsyncIterator[JournalCopy]:
        """Read the journals."""
        query = (
            "SELECT j.id, j.name, e.o_position AS top, t.position AS oldest, t.bytes AS before "
            "FROM waypost.journal j CROSS JOIN LATERAL waypost.log_end_1(j.id) e "
            "LEFT JOIN LATERAL (SELECT position, bytes FROM waypost.trimmed WHERE journal = j.id "
            "ORDER BY number DESC LIMIT 1) t ON true ORDER BY j.id"
        )
        for row in await self._connection.rows(query):
            found = await self._connection.rows(
                "SELECT name, last FROM waypost.generation WHERE journal = $1 ORDER BY number", row["id"]
            )
            top = int(row["top"])
            generations = tuple(
                [(str(one["name"]), top if one["last"] is None else int(one["last"])) for one in found]
            )
            oldest = 1 if row["oldest"] is None else int(row["oldest"])
            yield JournalCopy(row["id"], row["name"], generations, oldest, top, int(row["before"] or 0))

    async def entries(self, journal: JournalCopy) -> AsyncIterator[list[tuple[bytes, float]]]:
        """Read the entries of a journal."""
        query = f"SELECT record, at FROM waypost.log WHERE journal = {journal.number} AND kind = 0 AND position >= "
        async for rows in self._fetch(f"{query}{journal.oldest} ORDER BY position"):
            yield [(row["record"], self._now - row["at"]) for row in rows]

    async def sessions(self, journal: JournalCopy) -> AsyncIterator[SessionCopy]:
        """Read the sessions of a journal."""
        query = (
            "SELECT s.*, waypost.lives_1() AS lives, p.position AS proven, p.last, "
            "(SELECT jsonb_agg(jsonb_build_array(encode(room, 'hex'), since, until) ORDER BY since) "
            "FROM (SELECT room, since, NULL::bigint AS until FROM waypost.membership WHERE session = s.id "
            "UNION ALL SELECT room, since, until "
            "FROM waypost.left_membership WHERE session = s.id) m)::text AS rooms "
            "FROM waypost.session s LEFT JOIN LATERAL (SELECT position, last FROM waypost.proof WHERE session = s.id "
            f"ORDER BY position DESC LIMIT 1) p ON true WHERE s.journal = {journal.number} ORDER BY s.id"
        )
        async for rows in self._fetch(query):
            for row in rows:
                yield self._session(row)

    def _session(self, row: Row) -> SessionCopy:
        ends_at = row["expires_at"] if row["expires_at"] is not None else row["home_expires_at"]
        proven = row["start"] if row["proven"] is None else row["proven"]
        return SessionCopy(
            row["key"],
            row["sid"].decode(),
            row["start"],
            proven,
            row["start"] if row["last"] is None else row["last"],
            row["data"],
            self._orphan_ttl_s if ends_at is None else ends_at - row["lives"],
            row["stuck_at"],
            row["stuck_times"],
            tuple([(bytes.fromhex(room).decode(), *place) for room, *place in json.loads(row["rooms"] or "[]")]),
        )

    async def tombstones(self, journal: JournalCopy) -> AsyncIterator[Tombstone]:
        """Read what is left of sessions that have ended."""
        query = "SELECT key, sid, waypost.lives_1() - expired_at AS ago_s FROM waypost.tombstone WHERE journal = "
        async for rows in self._fetch(f"{query}{journal.number} AND expired_at > '-infinity'"):
            for row in rows:
                yield Tombstone(row["key"], row["sid"].decode(), row["ago_s"])

    async def emitted(self, journal: JournalCopy) -> AsyncIterator[tuple[str, float]]:
        """Read the ids of events of other programs."""
        async for rows in self._fetch(f"SELECT id, until FROM waypost.emitted WHERE journal = {journal.number}"):
            for row in rows:
                yield from_store(row["id"]), row["until"] - self._now

    async def rows(self, table: Table) -> AsyncIterator[list[CopiedRow]]:
        """Read a table."""
        own, source = _PARTS[table.name]
        default = _DEFAULT.get(table.name, "t")
        columns = ", ".join(
            f"({own.get(one.name, f'{default}.{one.name}')})" + ("::text" if one.kind == "history" else "")
            for one in table.columns
        )
        async for rows in self._fetch(f"SELECT {columns} FROM {source}"):
            width = range(len(table.columns))
            values = [tuple(row[number] for number in width) for row in rows]
            yield [convert(table, row, -self._now, from_store) for row in values]

    async def _fetch(self, query: str) -> AsyncIterator[list[Row]]:
        """Read the rows of a query some at a time."""
        cursor = f"copied_{next(self._numbers)}"
        await self._connection.run(f"DECLARE {cursor} CURSOR FOR {query}")
        while rows := await self._connection.rows(f"FETCH {_ROWS} FROM {cursor}"):
            yield rows
        await self._connection.run(f"CLOSE {cursor}")


async def finish_work(connection: Connection) -> None:
    """Let nothing be left to be done of what is removed in steps.

    Raises:
        EngineGone: The connection broke.
        Refusal: The server said no.
    """
    while await connection.value("SELECT waypost.queues_sweep_1('{}')"):
        pass
