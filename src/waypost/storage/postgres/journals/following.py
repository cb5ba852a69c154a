"""Follows the logs of all open journals: one query reads all that have moved."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from itertools import groupby
from typing import Final

from waypost.errors import StorageError
from waypost.logs import get_logger
from waypost.storage.engine_state import Lag
from waypost.storage.postgres.driver import Connection, Row
from waypost.storage.postgres.engine import Engine
from waypost.storage.postgres.journals.log import Log

__all__ = ["Following"]

_logger = get_logger(__name__)

_FOLLOW: Final = "SELECT * FROM waypost.follow_1($1, $2, $3, $4, $5, $6)"
_ROWS = 512
_MOST_BYTES = 4 << 20
_PAUSE_S = 0.1


class Following:
    """Reads the rows of other nodes, as soon as it is told of them, and every so often in any case.

    Args:
        engine: The engine.
        every_s: Seconds after which all journals are looked at, whatever was heard.
    """

    __slots__ = (
        "_all_at",
        "_behind",
        "_behind_since",
        "_engine",
        "_every_s",
        "_logs",
        "_moved",
        "_reading",
        "_task",
        "_wake",
    )

    def __init__(self, engine: Engine, every_s: float) -> None:
        self._engine = engine
        self._every_s = every_s
        self._logs: dict[int, Log] = {}
        self._moved: set[Log] = set()
        self._wake = asyncio.Event()
        self._reading = asyncio.Lock()
        self._all_at = 0.0
        self._behind = 0
        self._behind_since: float | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def logs(self) -> Collection[Log]:
        """The logs that are followed."""
        return self._logs.values()

    def add(self, log: Log) -> None:
        """Follow a log from where it stands."""
        self._logs[log.number] = log

    def remove(self, log: Log) -> None:
        """Follow a log no longer."""
        self._logs.pop(log.number, None)
        self._moved.discard(log)

    def wake(self, log: Log) -> None:
        """Read a log on, soon."""
        self._moved.add(log)
        self._wake.set()

    def wake_all(self) -> None:
        """Read all logs on, soon: notices may have been lost."""
        self._moved.update(self._logs.values())
        self._wake.set()

    def heard(self, rest: str) -> None:
        """Take the notice that a journal has moved: its number and a tick."""
        number, _, tick = rest.partition(" ")
        log = self._logs.get(int(number)) if number.isdecimal() else None
        if log is not None and not (tick.isdecimal() and int(tick) <= log.applied):
            self.wake(log)

    def lag(self) -> Lag:
        """Return how far this node is behind the log."""
        since = self._behind_since
        return Lag() if since is None else Lag(self._behind, asyncio.get_running_loop().time() - since)

    async def catch_up(self) -> None:
        """Read all logs to their end as of the call; they are applied when it returns. May be cancelled.

        Raises:
            StorageError: The engine can't be reached, or refuses it.
        """
        logs = [*self._logs.values()]
        numbers = [log.number for log in logs]

        async def ends(connection: Connection) -> list[Row]:
            query = "SELECT n, o_tick FROM unnest($1::int[]) AS n, waypost.log_end_1(n)"
            return await connection.rows(query, numbers)

        found = {row["n"]: row["o_tick"] for row in await self._engine.read(ends)}
        await asyncio.gather(*(log.wait_for(found[log.number]) for log in logs if log.number in found))

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Read no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not self._moved:
                await self._wait(self._all_at - loop.time())
            self._wake.clear()
            if loop.time() >= self._all_at:
                self._all_at = loop.time() + self._every_s
                self._moved.update(self._logs.values())
            moved, self._moved = self._moved, set()
            try:
                await self._read([log for log in moved if log.number in self._logs])
            except StorageError as problem:
                _logger.debug("the journals can't be followed at the moment: %s", problem)
                self._moved |= moved
                # While the engine is away nobody gets further, so this node falls behind nobody.
                self._behind, self._behind_since = 0, None
                await asyncio.sleep(_PAUSE_S)
            except Exception:
                # Without this task the node would hear of nothing any more.
                _logger.exception("a journal could not be followed in a way that was not foreseen")
                self._moved |= moved
                await asyncio.sleep(_PAUSE_S)

    async def _wait(self, timeout_s: float) -> None:
        if timeout_s <= 0:
            return
        handle = asyncio.get_running_loop().call_later(timeout_s, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            handle.cancel()

    async def _read(self, logs: list[Log]) -> None:
        if not logs:
            return
        # An own call that is lost may have to be read: its records are nowhere else.
        node = 0 if any(log.wants_all for log in logs) else self._engine.identity.id
        numbers = [log.number for log in logs]
        ticks = [log.read_to for log in logs]
        sizes = [log.read_size for log in logs]

        async def follow(connection: Connection) -> list[Row]:
            return await connection.rows(_FOLLOW, node, numbers, ticks, sizes, _ROWS, _MOST_BYTES)

        begun_at = asyncio.get_running_loop().time()
        found = {
            number: [*rows] for number, rows in groupby(await self._engine.read(follow), lambda row: row["journal"])
        }
        behind = 0
        for log, after in zip(logs, ticks, strict=True):
            rows = found.get(log.number, [])
            fresh = [row for row in rows if row["tick"] > log.read_to]
            if log.read_to < after:
                # Its history began anew meanwhile.
                continue
            log.add_rows(fresh)
            if len(rows) >= _ROWS or (rows and rows[-1]["bytes"] - rows[0]["bytes"] >= _MOST_BYTES // 2):
                # There is more. Who has read all that was there is not behind, however much comes meanwhile.
                behind += len(rows)
                self.wake(log)
        self._behind = behind
        if not behind:
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = begun_at
