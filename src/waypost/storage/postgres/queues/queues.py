"""All queues of an open PostgreSQL store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Final

import msgspec

from waypost.errors import StorageError
from waypost.logs import fields, get_logger
from waypost.storage.following import QueueFollower
from waypost.storage.postgres.driver import Connection, Row
from waypost.storage.postgres.engine import Engine
from waypost.storage.postgres.hearing import Hearing
from waypost.storage.postgres.queues.arrivals import Arrivals, notice_of
from waypost.storage.postgres.queues.queue import CONFIGURED, PostgresQueue
from waypost.storage.postgres.queues.rows import configuration_of, to_json
from waypost.storage.postgres.queues.shared import SharedQueues
from waypost.storage.postgres.queues.upkeep import QueueUpkeep
from waypost.storage.queue_records import Configuration, Due, ExpiredConsumer, QueueLimits, QueueRow

__all__ = ["PostgresQueues"]

_logger = get_logger(__name__)


_INFOS: Final = "SELECT * FROM waypost.queues_info_1($1, $2, $3)"
_NOTED: Final = "SELECT last_at FROM waypost.schedule WHERE name = $1"
_NOTE: Final = (
    "INSERT INTO waypost.schedule (name, last_at) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET last_at = $2"
)
# What leaves rows behind that are removed in steps.
_SWEPT: Final = frozenset({"purge", "seek", "remove_consumer", "configure", "delete"})
_LARGEST_NOTICE_BYTES: Final = 7000
_MAINTAIN_EACH_S: Final = 0.5


class _Released(msgspec.Struct, array_like=True):
    """A `Due` as a notice tells it to other nodes."""

    node: int
    queues: list[str]
    next_at: float | None
    # Whether another program has changed them, and not only added messages.
    is_change: bool = False


class PostgresQueues:
    """All queues of an open store: handles on them, and what is done for all together.

    Args:
        engine: The engine.
        limits: The limits of queues without their own.
        hearing: Gives and hears notices.
        owned: The names of the queues of which this node owns a consumer.
    """

    __slots__ = (
        "_arrivals",
        "_engine",
        "_follower",
        "_hearing",
        "_maintaining",
        "_notices",
        "_shared",
        "_upkeep",
    )

    def __init__(
        self,
        engine: Engine,
        limits: QueueLimits,
        hearing: Hearing,
        owned: Callable[[], Collection[str]],
    ) -> None:
        self._engine = engine
        self._hearing = hearing
        self._shared = SharedQueues(engine, limits, self._written)
        self._arrivals = Arrivals(engine, owned)
        self._upkeep = QueueUpkeep(engine, limits, self._shared.defaults)
        self._follower: QueueFollower | None = None
        self._maintaining: asyncio.Task[None] | None = None
        self._notices = 0
        hearing.listen("q", self._arrivals.heard)
        hearing.listen("d", self._heard_due)
        hearing.watch(self._arrivals.look)

    def start(self, maintains: Callable[[], bool]) -> None:
        """Begin to do the upkeep whenever it is for this node to do."""
        self._maintaining = asyncio.get_running_loop().create_task(self._maintain(maintains))

    async def close(self) -> None:
        """Finish the writes that were asked for, and take nothing more."""
        await self._shared.close()
        await self._arrivals.close()
        await self._upkeep.close()
        if self._maintaining is not None:
            self._maintaining.cancel()
            await asyncio.wait([self._maintaining])

    def queue(self, name: str) -> PostgresQueue:
        """Return a handle on a queue, whether it exists or not."""
        return PostgresQueue(name, self._shared)

    # -- several nodes ---------------------------------------------------------------------------------------

    def follow(self, follower: QueueFollower) -> None:
        """Set the follower of queues."""
        self._follower = follower
        self._arrivals.follow(follower)

    async def own(self, queue: str) -> None:
        """Begin to tell the follower of what others add to a queue: a consumer of it was just claimed.

        Raises:
            StorageError: The engine can't be reached.
        """
        await self._arrivals.own(queue)

    async def settled(self, queue: str) -> None:
        """Wait until nothing that was asked of a queue so far is under way.

        Raises:
            StorageError: The engine can't be reached.
        """
        await self._shared.settled(queue)

    # -- all queues ------------------------------------------------------------------------------------------

    async def queues(self, *, after: str, max_queues: int, idle: bool) -> list[QueueRow]:
        """Return the states of queues by name; see `Store.queues`."""
        rows = await self._rows(_INFOS, after, max_queues, idle)
        return [QueueRow(*row) for row in rows]

    async def configurations(self) -> list[Configuration]:
        """Return the configuration of every queue that has one."""
        return [*map(configuration_of, await self._rows(f"{CONFIGURED} ORDER BY name"))]

    async def release_due(self) -> Due:
        """Assign positions to messages that are due; other nodes are told."""
        self._shared.check()
        due = await self._upkeep.release_due()
        if due.queues:
            self._tell(due)
        return due

    async def expire_consumers(self, idle_s: float, attached: Collection[tuple[str, str]]) -> list[ExpiredConsumer]:
        """Remove consumers that were not used for a time, and to which no node has anything attached."""
        self._shared.check()
        return await self._upkeep.expire_consumers(idle_s, attached)

    async def trim(self) -> None:
        """End what is too old, has outlived its time to live, or was kept for long enough."""
        self._shared.check()
        await self._upkeep.trim()

    async def schedule_noted(self, name: str) -> float | None:
        """Return the wall time in seconds that was noted for a schedule; ``None`` if there is none."""
        for row in await self._rows(_NOTED, name):
            return float(row[0])
        return None

    async def note_schedule(self, name: str, at: float) -> None:
        """Note a wall time in seconds for a schedule."""

        async def note(connection: Connection) -> None:
            await connection.rows(_NOTE, name, at)

        self._shared.check()
        await self._engine.keep_up(note, f"note when schedule {name} ran last")

    # -- how -------------------------------------------------------------------------------------------------

    async def _rows(self, query: str, *arguments: object) -> list[Row]:
        async def read(connection: Connection) -> list[Row]:
            return await connection.rows(query, *arguments)

        self._shared.check()
        return await self._engine.read(read)

    def _written(self, queue: str, operation: str, positions: list[int]) -> None:
        if positions:
            self._arrivals.written(queue, positions)
        if positions or operation == "redrive":
            self._hearing.notify(f"q {notice_of(queue)}")
        if operation == "lost" and self._follower is not None:
            self._follower.released(Due(frozenset({queue}), None))
        if operation in _SWEPT:
            self._upkeep.sweep()

    def tell_changed(self, queues: Collection[str]) -> None:
        """Tell the other nodes that this one, which serves nobody, has changed queues."""
        for name in sorted(queues):
            self._notify([name], None, is_change=True)

    def _tell(self, due: Due) -> None:
        queues: list[str] = []
        size = 0
        for name in sorted(due.queues):
            if size + len(to_json(name)) > _LARGEST_NOTICE_BYTES:
                self._notify(queues, due.next_at)
                queues, size = [], 0
            queues.append(name)
            size += len(to_json(name)) + 1
        self._notify(queues, due.next_at)

    def _notify(self, queues: list[str], next_at: float | None, *, is_change: bool = False) -> None:
        # The number tells notices apart, so that none stands for another.
        self._notices += 1
        text = to_json(_Released(self._engine.identity.id, queues, next_at, is_change))
        self._hearing.notify(f"d {self._notices}", text)

    def _heard_due(self, notice: str) -> None:
        _, _, text = notice.partition(" ")
        try:
            released = msgspec.json.decode(text, type=_Released)
        except msgspec.MsgspecError as error:
            _logger.warning(
                "%s: a notice can't be read: %s", self._engine.name, error, extra=fields(store=self._engine.name)
            )
            return
        if released.node != self._engine.identity.id and self._follower is not None:
            queues = frozenset(released.queues)
            changed = queues if released.is_change else frozenset[str]()
            self._follower.released(Due(queues, released.next_at, changed))

    async def _maintain(self, maintains: Callable[[], bool]) -> None:
        while True:
            await asyncio.sleep(_MAINTAIN_EACH_S)
            if not maintains():
                continue
            try:
                due = await self.release_due()
                self._upkeep.sweep()
            except StorageError as error:
                _logger.debug(
                    "%s: messages that are due have to wait: %s",
                    self._engine.name,
                    error,
                    extra=fields(store=self._engine.name),
                )
                continue
            if due.queues and self._follower is not None:
                self._follower.released(due)
