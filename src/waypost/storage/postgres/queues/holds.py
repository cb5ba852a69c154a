"""The messages that functions of this node hold: noted lazily, and counted as lost deliveries when the node dies."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Final

from waypost.errors import StorageError
from waypost.logs import fields, get_logger
from waypost.storage.postgres.driver import Connection
from waypost.storage.postgres.engine import Engine

__all__ = ["Holds"]

_logger = get_logger(__name__)

# What is held for less than this is never written.
_WRITE_AFTER_S: Final = 0.03
_NOTE: Final = "SELECT waypost.holds_note_1($1, $2, $3, $4, $5, $6, $7)"

# Queue, consumer, holder.
_Key = tuple[str, str, str]


class Holds:
    """Gathers notes and writes them a little later, each as a row of its own: a row that changes would grow slow.

    Args:
        engine: The engine.
    """

    __slots__ = ("_engine", "_noted", "_numbers", "_task", "_timer", "_written")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # No other row of this node has such a number, also none of an earlier incarnation.
        self._numbers = count(1)
        self._noted: dict[_Key, int | None] = {}
        # What is in the store: the position, and the row's number.
        self._written: dict[_Key, tuple[int, int]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def note(self, queue: str, consumer: str, holder: str, position: int | None) -> None:
        """Note the oldest message that a holder has in hand."""
        key = (queue, consumer, holder)
        written = self._written.get(key)
        if position == (written and written[0]):
            self._noted.pop(key, None)
            return
        self._noted[key] = position
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_WRITE_AFTER_S, self._begin)

    async def stop(self) -> None:
        """Write nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._noted = {}
        if self._task is not None:
            await asyncio.wait([self._task])

    def _begin(self) -> None:
        self._timer = None
        if self._task is not None:
            # One at a time, so that a row comes before it goes.
            self._timer = asyncio.get_running_loop().call_later(_WRITE_AFTER_S, self._begin)
        elif self._noted:
            self._task = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        noted, self._noted = self._noted, {}
        written = {key: (position, next(self._numbers)) for key, position in noted.items() if position is not None}
        gone = [self._written[key][1] for key in noted if key in self._written]
        try:
            await self._engine.keep_up(self._call(written, gone))
        except StorageError as failure:
            _logger.warning(
                "%s: what is in hand could not be noted: %s",
                self._engine.name,
                failure,
                extra=fields(store=self._engine.name),
            )
            # It is tried again with the next notes: of those that have not changed since.
            self._noted = {**noted, **self._noted}
        else:
            for key in noted:
                self._written.pop(key, None)
            self._written |= written
        finally:
            self._task = None

    def _call(self, written: dict[_Key, tuple[int, int]], gone: list[int]) -> Callable[[Connection], Awaitable[None]]:
        async def call(connection: Connection) -> None:
            await connection.rows(
                _NOTE,
                self._engine.identity.id,
                self._engine.identity.incarnation,
                [number for _, number in written.values()],
                [queue for queue, _, _ in written],
                [consumer for _, consumer, _ in written],
                [position for position, _ in written.values()],
                gone,
            )

        return call
