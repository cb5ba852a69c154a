"""Answers on PostgreSQL; see `waypost.storage.answer_base`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from waypost.errors import StoreClosed
from waypost.storage.answer_base import MAX_ANSWERS_PER_CLIENT, Answer, AnswerGivenUp, AnswerLimits
from waypost.storage.postgres.driver import Connection, Row
from waypost.storage.postgres.engine import Engine
from waypost.storage.postgres.gathering import Gathered
from waypost.storage.postgres.lanes import Mark, Write, settle_each

__all__ = ["PostgresAnswers", "answer_sum"]

_STEP = 1000
"""The most rows of one step of trimming."""

_KEEP = "SELECT waypost.keep_answers_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
_SETTLE = "SELECT waypost.settle_answers_1($1, $2, $3, $4, $5)"
_FIND = "SELECT n, record, given_up, sum FROM waypost.find_answers_1($1, $2, $3)"


@dataclass(frozen=True, slots=True)
class _Kept:
    """An answer to keep, as it is sent."""

    client: bytes
    sequence: int
    message: bytes
    account: bytes
    record: bytes
    sum: bytes
    settled: int


class _Keeping:
    """Sends answers that are to be kept; see `lanes.LaneWork`."""

    def __init__(self, limits: AnswerLimits) -> None:
        self._limits = limits

    def split(self, writes: Sequence[Write[Any]]) -> int:
        return len(writes)

    async def send(self, connection: Connection, writes: Sequence[Write[Any]], mark: Mark) -> bool:
        kept: list[_Kept] = [write.payload for write in writes]
        await connection.rows(
            _KEEP,
            *mark,
            [one.client for one in kept],
            [one.sequence for one in kept],
            [one.message for one in kept],
            [one.account for one in kept],
            [one.record for one in kept],
            [one.sum for one in kept],
            [one.settled for one in kept],
            MAX_ANSWERS_PER_CLIENT,
            self._limits.account_bytes,
            self._limits.total_bytes,
        )
        return True

    async def settle(self, connection: Connection, writes: Sequence[Write[Any]], mark: Mark, by: Mark) -> bool | None:
        was_done = await connection.value(_SETTLE, *mark, by.incarnation, by.batch)
        return True if was_done else None

    def finish(self, writes: Sequence[Write[Any]], answer: bool, mark: Mark) -> None:
        settle_each(writes, [None] * len(writes))

    def lose(self, mark: Mark) -> None:
        """Do nothing: whether an uncertain answer is kept shows when it is looked for."""


class PostgresAnswers:
    """The answers in the database.

    Args:
        engine: The engine.
        ttl_s: For how long an answer is kept, in seconds.
        limits: How many bytes of answers are kept.
    """

    __slots__ = ("_engine", "_found", "_is_closed", "_lane", "_ttl_s")

    def __init__(self, engine: Engine, ttl_s: float, limits: AnswerLimits) -> None:
        self._engine = engine
        self._ttl_s = ttl_s
        self._lane = engine.lane(_Keeping(limits))
        self._found: Gathered[tuple[bytes, int, bytes], Row] = Gathered(self._ask)
        self._is_closed = False

    async def find(self, client: bytes, sequence: int, message: str) -> bytes | None:
        """Return the answer to a client's message."""
        if self._is_closed:
            raise StoreClosed(self._engine.name)
        encoded = _bytes(message)
        row = await self._found.find((client, sequence, encoded))
        if row is None:
            return None
        record: bytes = row["record"]
        if row["given_up"] or row["sum"] != answer_sum(client, encoded, record):
            raise AnswerGivenUp(message)
        return record

    async def keep(self, answer: Answer, settled: int) -> None:
        """Store an answer, and remove those that the client has confirmed."""
        message, account = _bytes(answer.message), _bytes(answer.account)
        kept_sum = answer_sum(answer.client, message, answer.record)
        kept = _Kept(answer.client, answer.sequence, message, account, answer.record, kept_sum, settled)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        size = len(answer.record) + len(message) + len(account) + len(answer.client)
        await self._lane.add(Write("keep an answer", kept, lambda _: None, future, size))

    async def trim(self) -> None:
        """Remove answers that are too old.

        Raises:
            StorageError: The engine did not answer.
        """

        async def work(connection: Connection) -> None:
            while await connection.value("SELECT waypost.trim_answers_1($1, $2)", self._ttl_s, _STEP):
                pass
            while await connection.value("SELECT waypost.trim_answer_counts_1($1)", _STEP):
                pass

        await self._engine.keep_up(work)

    async def close(self) -> None:
        """Take nothing more, and finish what was asked for."""
        self._is_closed = True
        await self._lane.close()

    async def _ask(self, names: Sequence[tuple[bytes, int, bytes]]) -> dict[tuple[bytes, int, bytes], Row]:
        async def read(connection: Connection) -> list[Row]:
            clients, sequences, messages = zip(*names, strict=True)
            return await connection.rows(_FIND, [*clients], [*sequences], [*messages])

        return {names[row["n"] - 1]: row for row in await self._engine.read(read)}


def _bytes(text: str) -> bytes:
    """Return a text from outside as it is stored: a text of the engine's can't hold every character."""
    return text.encode("utf-8", "surrogatepass")


def answer_sum(client: bytes, message: bytes, record: bytes) -> bytes:
    """Return the sum of an answer."""
    return sha256(client + message + record).digest()[:4]
