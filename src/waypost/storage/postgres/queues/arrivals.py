"""The messages that other nodes add to queues of which this node serves consumers, in the order of positions."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Collection
from itertools import groupby
from typing import Final

from waypost.errors import StorageError
from waypost.logs import fields, get_logger
from waypost.storage.following import QueueFollower
from waypost.storage.postgres.driver import Connection, Row
from waypost.storage.postgres.engine import Engine
from waypost.storage.postgres.queues.texts import from_store
from waypost.storage.queue_records import Accepted, Due, Enqueued, NewMessageRow

__all__ = ["Arrivals", "notice_of"]

_logger = get_logger(__name__)

_ARRIVED: Final = "SELECT * FROM waypost.queues_arrived_1($1, $2, $3)"
_TOP: Final = "SELECT top FROM waypost.queue_info_1($1)"
_MOST: Final = 1000
# A notice may be lost: without one it is looked as often.
_LOOK_EACH_S: Final = 0.5


def notice_of(queue: str) -> str:
    """Return the name of a queue as notices have it; as short for each."""
    return hashlib.md5(queue.encode(), usedforsecurity=False).hexdigest()


class Arrivals:
    """Reads what others have added.

    Args:
        engine: The engine.
        owned: The names of the queues of which this node owns a consumer.
    """

    __slots__ = ("_engine", "_follower", "_known", "_notices", "_owned", "_task", "_woken")

    def __init__(self, engine: Engine, owned: Callable[[], Collection[str]]) -> None:
        self._engine = engine
        self._owned = owned
        self._follower: QueueFollower | None = None
        # The position up to which this node knows all messages of a queue.
        self._known: dict[str, int] = {}
        self._notices: dict[str, str] = {}
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def follow(self, follower: QueueFollower) -> None:
        """Set who is told."""
        self._follower = follower

    async def own(self, queue: str) -> None:
        """Begin to read what comes to a queue from now on. A consumer of it was just claimed.

        Raises:
            StorageError: The engine can't be reached.
        """
        if queue in self._known:
            return

        async def read(connection: Connection) -> int:
            return int(await connection.value(_TOP, queue) or 0)

        top = await self._engine.read(read)
        self._known.setdefault(queue, top)
        self._notices[notice_of(queue)] = queue
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def written(self, queue: str, positions: list[int]) -> None:
        """Note the positions of messages that this node has added itself."""
        known = self._known.get(queue)
        if known is None or not positions or positions[-1] <= known:
            return
        if positions[0] == known + 1 and positions[-1] == known + len(positions):
            self._known[queue] = positions[-1]
        else:
            # Others were there first.
            self._woken.set()

    def heard(self, notice: str) -> None:
        """Look at a queue, as another node has added to it."""
        if notice in self._notices:
            self._woken.set()

    def look(self) -> None:
        """Look at all queues: notices may have been lost."""
        self._woken.set()

    async def close(self) -> None:
        """Read no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_LOOK_EACH_S):
                    await self._woken.wait()
            except TimeoutError:
                pass
            self._woken.clear()
            try:
                await self._read()
            except StorageError as error:
                _logger.debug(
                    "%s: what other nodes add can't be read at the moment: %s",
                    self._engine.name,
                    error,
                    extra=fields(store=self._engine.name),
                )

    async def _read(self) -> None:
        owned = frozenset(self._owned())
        for queue in [*self._known]:
            if queue not in owned:
                del self._known[queue], self._notices[notice_of(queue)]
        if not self._known:
            return
        queues, after = [*self._known], [*self._known.values()]

        async def read(connection: Connection) -> list[Row]:
            return await connection.rows(_ARRIVED, queues, after, _MOST)

        rows = await self._engine.read(read)
        for queue, found in groupby(rows, lambda row: str(row["queue"])):
            self._take(queue, [*found])

    def _take(self, queue: str, rows: list[Row]) -> None:
        known = self._known.get(queue)
        if known is None:
            return
        if rows[0]["top"] < known:
            # It was deleted, and made anew.
            known = self._known[queue] = 0
            self._woken.set()
            return
        rows = [row for row in rows if row["position"] is not None and row["position"] > known]
        if not rows:
            return
        self._known[queue] = rows[-1]["position"]
        if len(rows) == _MOST:
            self._woken.set()
        if self._follower is None:
            return
        me = self._engine.identity.id
        others = [row for row in rows if row["node"] != me and row["consumer"] is None]
        if others:
            accepted = tuple([Accepted(from_store(row["id"]), row["position"], False) for row in others])
            self._follower.arrived(queue, [*map(_message, others)], Enqueued(accepted))
        if any(row["consumer"] is not None for row in rows):
            # For one consumer alone: its runner reads it.
            self._follower.released(Due(frozenset({queue}), None))


def _message(row: Row) -> NewMessageRow:
    expires_at = row["expires_at"]
    ttl_s = None if expires_at is None else expires_at - row["enqueued_at"]
    key, headers = row["key"], row["headers"]
    return NewMessageRow(
        from_store(row["id"]),
        row["record"],
        None if key is None else from_store(key),
        ttl_s,
        0.0,
        None if headers is None else from_store(headers),
    )
