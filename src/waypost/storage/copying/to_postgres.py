"""Writes a copied store into an empty one on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from zlib import crc32

from waypost.storage.copying.records import Column, JournalCopy, Reading, SessionCopy, Table, convert
from waypost.storage.copying.records import Row as CopiedRow
from waypost.storage.postgres.answers import answer_sum
from waypost.storage.postgres.driver import Connection
from waypost.storage.postgres.queues.texts import to_store

__all__ = ["PostgresWriting"]

_LOG: Final = """
    INSERT INTO waypost.log SELECT $1::int, t, p, 0, 0, 0, 0, '', record, at, bytes, sum
    FROM unnest($2::bigint[], $3::bigint[], $4::bytea[], $5::float8[], $6::bigint[], $7::bigint[])
        AS one (t, p, record, at, bytes, sum)
"""
_SESSION: Final = """
    INSERT INTO waypost.session (journal, key, sid, start, data, data_sum, marks, expires_at, stuck_at, stuck_times)
    VALUES ($1, $2::bytea, $3::bytea, $4::bigint, $5::bytea, waypost.sum_1($2::bytea || $5::bytea),
        waypost.sum_1($3::bytea || int8send($4::bigint)), waypost.lives_1() + $6::float8, $7, $8) RETURNING id
"""
_PROOF: Final = """
    INSERT INTO waypost.proof
    VALUES ($1::bigint, $2::bigint, $3::bigint, waypost.proof_sum_1($1::bigint, $2::bigint, $3::bigint))
"""
_IN: Final = """
    INSERT INTO waypost.membership SELECT $1::bigint, room, since, $2::int,
        waypost.membership_sum_1($1::bigint, room, since, NULL)
    FROM unnest($3::bytea[], $4::bigint[]) AS one (room, since)
"""
_LEFT: Final = """
    INSERT INTO waypost.left_membership SELECT $1::bigint, room, since, until, $2::int,
        waypost.membership_sum_1($1::bigint, room, since, until)
    FROM unnest($3::bytea[], $4::bigint[], $5::bigint[]) AS one (room, since, until)
"""
_OF_QUEUE: Final = frozenset(
    {"id", "name", "generation", "paused_until", "max_messages", "max_bytes", "max_age_s", "overflow"}
    | {"keep_settled_s", "settings"}
)
_OF_CONSUMER: Final = frozenset({"id", "queue", "name", "paused_until"})
_NODE = Column("node", "int")
_SIZE = Column("size", "int")
_SUM = Column("sum", "bytea")
# What an identity has given so far.
_IDENTITIES: Final = (("queue", "id"), ("consumer", "id"), ("scheduled", "number"), ("dead_letter", "number"))
_LOWEST: Final = """
    UPDATE waypost.consumer_state s SET low = coalesce(
        (SELECT min(position) FROM waypost.outstanding o WHERE o.ledger = s.ledger), 0)
"""
_FLOORS: Final = """
    UPDATE waypost.queue_state s SET floor = coalesce(
        (SELECT min(position) - 1 FROM waypost.message m WHERE m.queue = s.queue), s.top)
"""
_COUNT_ANSWERS: Final = """
    SELECT waypost.count_answers_1(array_agg(account), array_agg(bytes)) FROM (
        SELECT account, sum(waypost.answer_bytes_1(record))::bigint AS bytes FROM waypost.answer GROUP BY account) one
"""


class PostgresWriting:
    """A store on PostgreSQL that is written; see `waypost.storage.copying.records.Writing`.

    Args:
        connection: A connection, within a transaction.
        now: The store's time.
    """

    def __init__(self, connection: Connection, now: float) -> None:
        self._connection = connection
        self._now = now

    async def journal(self, journal: JournalCopy, reading: Reading) -> int:
        """Write a journal, with all that belongs to it."""
        number = int(
            await self._connection.value(
                "INSERT INTO waypost.journal (name, made_at) VALUES ($1, $2) RETURNING id", journal.name, self._now
            )
        )
        last = len(journal.generations)
        for n, (name, ended) in enumerate(journal.generations, 1):
            values = (number, n, name, None if n == last else ended)
            await self._connection.rows("INSERT INTO waypost.generation VALUES ($1, $2, $3, $4)", *values)
        await self._connection.rows(
            "INSERT INTO waypost.trimmed VALUES ($1, 1, 1, $2, $3)", number, journal.oldest, journal.before
        )
        written = await self._write_log(number, journal, reading)
        async for name, left_s in reading.emitted(journal):
            values_ = (number, to_store(name), self._now + left_s)
            await self._connection.rows("INSERT INTO waypost.emitted VALUES ($1, $2, $3)", *values_)
        async for stone in reading.tombstones(journal):
            await self._connection.rows(
                "INSERT INTO waypost.tombstone (journal, key, sid, expired_at) "
                "VALUES ($1, $2, $3, waypost.lives_1() - $4::float8)",
                *(number, stone.key, stone.sid.encode(), stone.ago_s),
            )
        async for session in reading.sessions(journal):
            await self._write_session(number, session)
            written += 1
        return written

    async def _write_log(self, number: int, journal: JournalCopy, reading: Reading) -> int:
        tick, size = 0, journal.before
        async for entries in reading.entries(journal):
            sizes: list[int] = []
            for record, _ in entries:
                size += len(record)
                sizes.append(size)
            ticks = range(tick + 1, tick + 1 + len(entries))
            records = [record for record, _ in entries]
            times = [self._now - ago_s for _, ago_s in entries]
            positions = [journal.oldest + one - 1 for one in ticks]
            sums = [crc32(record) for record in records]
            await self._connection.rows(_LOG, number, [*ticks], positions, records, times, sizes, sums)
            tick += len(entries)
        # Where it stands; also without an entry.
        await self._connection.rows(
            "INSERT INTO waypost.log VALUES ($1, $2, $3, 0, 0, 0, 1, '', '', $4, $5, 0)",
            *(number, tick + 1, journal.top, self._now, size),
        )
        return tick

    async def _write_session(self, number: int, one: SessionCopy) -> None:
        kept = (one.key, one.sid.encode(), one.start, one.data, one.left_s, one.stuck_at, one.stuck_times)
        session = await self._connection.value(_SESSION, number, *kept)
        if (one.proven, one.last) != (one.start, one.start):
            await self._connection.rows(_PROOF, session, one.proven, one.last)
        now_in = [(room.encode(), since) for room, since, until in one.rooms if until is None]
        left = [(room.encode(), since, until) for room, since, until in one.rooms if until is not None]
        if now_in:
            await self._connection.rows(_IN, session, number, *map(list, zip(*now_in, strict=True)))
        if left:
            await self._connection.rows(_LEFT, session, number, *map(list, zip(*left, strict=True)))

    async def rows(self, table: Table, rows: list[CopiedRow]) -> None:
        """Write rows of a table."""
        columns = table.columns
        converted = [convert(table, row, self._now, to_store) for row in rows]
        match table.name:
            case "queue" | "consumer":
                await self._insert_with_state(table, converted)
            case "message" | "scheduled":
                sized = [(*row, 0, _size(columns, row)) for row in converted]
                await self._insert(table.name, (*columns, _NODE, _SIZE), sized)
            case "dead_letter":
                await self._insert(table.name, (*columns, _SIZE), [(*row, _size(columns, row)) for row in converted])
            case "outstanding":
                renamed = tuple([one._replace(name="ledger") if one.name == "consumer" else one for one in columns])
                await self._insert(table.name, renamed, converted)
            case "answer":
                await self._insert_answers(table, converted)
            case _:
                await self._insert(table.name, columns, converted)

    async def _insert_with_state(self, table: Table, rows: list[CopiedRow]) -> None:
        """Insert queues, or consumers: what stays of them, and their states."""
        stays = _OF_QUEUE if table.name == "queue" else _OF_CONSUMER
        kept = [n for n, one in enumerate(table.columns) if one.name in stays]
        counted = [n for n, one in enumerate(table.columns) if one.name not in stays]
        await self._insert(
            table.name, [table.columns[n] for n in kept], [tuple([row[n] for n in kept]) for row in rows]
        )
        columns = [table.columns[n] for n in counted]
        number = 0  # each table begins with the id
        if table.name == "queue":
            extra: tuple[Column, ...] = (Column("queue", "int"), Column("n", "bigint"))
            states = [(*[row[n] for n in counted], row[number], 1) for row in rows]
        else:
            extra = tuple([Column(name, "bigint") for name in ("consumer", "n", "ledger", "low")])
            states = [(*[row[n] for n in counted], row[number], 1, row[number], 0) for row in rows]
        await self._insert(f"{table.name}_state", (*columns, *extra), states)

    async def _insert_answers(self, table: Table, rows: list[CopiedRow]) -> None:
        columns = tuple([one._replace(type="bytea") if one.type == "text" else one for one in table.columns])
        encoded = [tuple([one.encode() if isinstance(one, str) else one for one in row]) for row in rows]
        places = {one.name: n for n, one in enumerate(columns)}
        summed = [
            (*row, answer_sum(row[places["client"]], row[places["message"]], row[places["record"]]))
            for row in encoded
        ]
        await self._insert(table.name, (*columns, _SUM), summed)

    async def _insert(self, table: str, columns: Sequence[Column], rows: list[CopiedRow]) -> None:
        names = [one.name for one in columns]
        types = ["text" if one.type == "jsonb" else one.type for one in columns]
        given = ", ".join(f"${n}::{one}[]" for n, one in enumerate(types, 1))
        values = ", ".join(f"{one.name}::{one.type}" for one in columns)
        query = (
            f"INSERT INTO waypost.{table} ({', '.join(names)}) OVERRIDING SYSTEM VALUE "
            f"SELECT {values} FROM unnest({given}) AS one ({', '.join(names)})"
        )
        arrays: list[list[Any]] = [list(column) for column in zip(*rows, strict=True)]
        await self._connection.rows(query, *arrays)

    async def finish(self) -> None:
        """Set what follows from the rows; the caller commits."""
        await self._connection.run(_LOWEST)
        await self._connection.run(_FLOORS)
        await self._connection.run(_COUNT_ANSWERS)
        for table, column in _IDENTITIES:
            await self._connection.rows(
                f"SELECT setval(pg_get_serial_sequence('waypost.{table}', '{column}'), max({column}) + 1, false) "
                f"FROM waypost.{table} HAVING max({column}) IS NOT NULL"
            )
        await self._connection.rows(
            "SELECT setval('waypost.ledger', max(ledger) + 1, false) FROM waypost.consumer_state "
            "HAVING max(ledger) IS NOT NULL"
        )


def _size(columns: Sequence[Column], row: CopiedRow) -> int:
    """Return the bytes that a message counts for."""
    places = {one.name: n for n, one in enumerate(columns)}
    headers = row[places["headers"]]
    return len(row[places["record"]]) + (0 if headers is None else len(headers.encode()))
