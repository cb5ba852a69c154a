"""The upkeep of all queues: releasing what is due, ending what is too old, removing rows in steps.

Each step is a short call of its own. The beginnings of indexes, where rows were that are gone, are passed over: a
step reads from a time on before which nothing was left, and only now and then from the very beginning.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from typing import Any, Final

import msgspec

from waypost.errors import StorageError
from waypost.logs import fields, get_logger
from waypost.storage.postgres.driver import Connection, Row
from waypost.storage.postgres.engine import Engine
from waypost.storage.queue_base import DEAD_LETTER_S
from waypost.storage.queue_records import Due, ExpiredConsumer, QueueLimits

__all__ = ["QueueUpkeep"]

_logger = get_logger(__name__)

_DUE: Final = "SELECT * FROM waypost.queues_due_1($1)"
_RELEASE: Final = "SELECT waypost.queue_release_1($1, $2)"
_TO_TRIM: Final = "SELECT * FROM waypost.queues_to_trim_1($1, $2)"
_TRIM: Final = "SELECT waypost.queue_trim_1($1, $2, $3, $4)"
_FORGET_IDS: Final = "SELECT waypost.deduplication_trim_1($1)"
_FORGET_DEAD: Final = "SELECT waypost.dead_letters_trim_1($1)"
_SWEEP: Final = "SELECT waypost.queues_sweep_1($1)"
_ATTACHED: Final = "SELECT waypost.consumers_attached_1($1, $2, $3, $4)"
_IDLE: Final = "SELECT * FROM waypost.consumers_idle_1($1, $2)"
_EXPIRE: Final = "SELECT waypost.consumer_expire_1($1, $2, $3, $4)"

_PAUSE_S: Final = 0.005
# A write that began so long ago may still bring a row before the time from which is read.
_OVERLAP_S: Final = 60.0
_FROM_THE_BEGINNING_EACH_S: Final = 600.0


class _Since:
    """From when on rows are read whose times lie in the past."""

    __slots__ = ("_anew_at", "_upto")

    def __init__(self) -> None:
        self._upto = float("-inf")
        self._anew_at = 0.0

    def begin(self) -> float:
        """Return the time from which to read."""
        if time.monotonic() >= self._anew_at:
            self._anew_at = time.monotonic() + _FROM_THE_BEGINNING_EACH_S
            self._upto = float("-inf")
        return self._upto - _OVERLAP_S

    def done(self, upto: float) -> None:
        """Note that nothing is left from before a time."""
        self._upto = max(self._upto, upto)


class QueueUpkeep:
    """The upkeep of all queues.

    Args:
        engine: The engine.
        limits: The limits of queues without their own.
        defaults: These, as JSON.
    """

    __slots__ = ("_defaults", "_due", "_engine", "_ids", "_limits", "_outlived", "_sweeping")

    def __init__(self, engine: Engine, limits: QueueLimits, defaults: str) -> None:
        self._engine = engine
        self._limits = limits
        self._defaults = defaults
        self._due = _Since()
        self._outlived = _Since()
        self._ids = _Since()
        self._sweeping: asyncio.Task[None] | None = None

    async def release_due(self) -> Due:
        """Assign positions to messages that are due."""
        since, began = self._due.begin(), self._engine.clock.now()
        released: set[str] = set()
        next_at: float | None = None
        while True:
            next_at, found = None, []
            for row in await self._rows(_DUE, since):
                if row["queue"] is None:
                    next_at = row["next_at"]
                else:
                    found.append((row["queue"], row["name"]))
            if not found:
                self._due.done(began)
                return Due(frozenset(released), next_at)
            for queue, name in found:
                while await self._value(_RELEASE, queue, since):
                    released.add(name)

    async def trim(self) -> None:
        """End what is too old, has outlived its time to live, or was kept for long enough."""
        since, began = self._outlived.begin(), self._engine.clock.now()
        for row in await self._rows(_TO_TRIM, self._defaults, since):
            await self._repeat(_TRIM, row["queue"], row["kind"], self._defaults, since)
        self._outlived.done(began)
        await self._repeat(_FORGET_DEAD, DEAD_LETTER_S)
        since, began = self._ids.begin(), self._engine.clock.now()
        await self._repeat(_FORGET_IDS, since)
        self._ids.done(began)
        self.sweep()

    async def expire_consumers(self, idle_s: float, attached: Collection[tuple[str, str]]) -> list[ExpiredConsumer]:
        """Remove consumers that were not used for a time, and to which no node has anything attached."""
        identity = self._engine.identity
        names = sorted({*attached})
        await self._value(
            _ATTACHED, identity.id, identity.incarnation, [queue for queue, _ in names], [name for _, name in names]
        )
        expired: list[ExpiredConsumer] = []
        after = 0
        while rows := await self._rows(_IDLE, idle_s, after):
            for queue, consumer, number in rows:
                after = number
                answer = await self._value(_EXPIRE, queue, consumer, idle_s, self._defaults)
                if answer is not None:
                    expired.append(ExpiredConsumer(queue, consumer, *msgspec.json.decode(answer)))
        if expired:
            self.sweep()
        return expired

    def sweep(self) -> None:
        """Remove in the background the rows of what is gone already, unless that is under way."""
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.get_running_loop().create_task(self._sweep())

    async def close(self) -> None:
        """Stop sweeping after the step that is under way; the next opening goes on."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.wait([self._sweeping])

    async def _sweep(self) -> None:
        try:
            await self._repeat(_SWEEP, self._defaults)
        except StorageError as problem:
            _logger.debug(
                "%s: what is gone still takes room, and is removed later: %s",
                self._engine.name,
                problem,
                extra=fields(store=self._engine.name),
            )

    async def _repeat(self, query: str, *arguments: object) -> None:
        """Do a step until nothing is left, with pauses for others."""
        taken = await self._value(query, *arguments)
        while taken:
            await asyncio.sleep(_PAUSE_S)
            taken = await self._value(query, *arguments)

    async def _rows(self, query: str, *arguments: object) -> list[Row]:
        async def use(connection: Connection) -> list[Row]:
            return await connection.rows(query, *arguments)

        return await self._engine.keep_up(use)

    async def _value(self, query: str, *arguments: object) -> Any:
        async def use(connection: Connection) -> Any:
            return await connection.value(query, *arguments)

        return await self._engine.keep_up(use)
