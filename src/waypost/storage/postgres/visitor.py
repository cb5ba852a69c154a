"""A store on PostgreSQL as a command sees it, beside servers or without any."""

from __future__ import annotations

import secrets

from waypost.errors import StorageError, StoreClosed
from waypost.storage.answer_base import AnswerLimits
from waypost.storage.base import ANSWER_TTL_S, PATIENCE_S
from waypost.storage.clock import StoreClock
from waypost.storage.database_address import parse_address
from waypost.storage.journal_records import Retention
from waypost.storage.postgres.driver import EngineGone, Refusal, connect
from waypost.storage.postgres.opening import Opened, Settings, open_parts
from waypost.storage.postgres.problems import problem_of
from waypost.storage.postgres.schema import read_versions
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import Configuration, QueueLimits, QueueRow

__all__ = ["PostgresVisitor"]

# It has no sessions, and follows no journal.
_ORPHAN_TTL_S = 3600.0
_TAIL_BYTES = 1 << 20


class PostgresVisitor:
    """The queues of a store on PostgreSQL; see `waypost.storage.visiting.Visitor`.

    A visitor is a node for a moment, as all that writes to queues is, but no server: nobody reaches it, it does no
    upkeep, and it makes no schema.

    Args:
        settings: The options of the store.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._name = settings.address.shown
        self._clock = StoreClock()
        self._opened: Opened | None = None
        self._used: set[str] = set()

    @classmethod
    def at(cls, url: str) -> PostgresVisitor:
        """Make a visitor of the store at an address."""
        return cls(
            Settings(
                address=parse_address(url),
                retention=Retention(),
                queue_limits=QueueLimits(),
                answer_ttl_s=ANSWER_TTL_S,
                answer_limits=AnswerLimits(),
                tail_bytes=_TAIL_BYTES,
                orphan_ttl_s=_ORPHAN_TTL_S,
                patience_s=PATIENCE_S,
                now=None,
                node=f"command-{secrets.token_hex(4)}",
                is_server=False,
            )
        )

    @property
    def clock(self) -> StoreClock:
        """The clock on which the store measures durations."""
        return self._clock

    async def open(self) -> None:
        """Open the store.

        Raises:
            StorageError: The server can't be reached, or there is no schema that this version can use.
        """
        await self._check_schema()
        self._clock.begin()
        self._opened = await open_parts(self._settings, self._clock)
        self._opened.start()

    async def close(self) -> None:
        """Finish the pending calls, tell the servers of the queues that were used, and leave."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.queues.tell_changed(self._used)
            await opened.close()

    def queue(self, name: str) -> StoredQueue:
        """Return a handle on a queue, whether it exists or not."""
        self._used.add(name)
        return self._open().queues.queue(name)

    async def queues(self, *, after: str = "", max_queues: int = 1000, idle: bool = True) -> list[QueueRow]:
        """Return the states of queues whose names come after one, by name."""
        return await self._open().queues.queues(after=after, max_queues=max_queues, idle=idle)

    async def configurations(self) -> list[Configuration]:
        """Return the configuration of every queue that has one."""
        return await self._open().queues.configurations()

    async def _check_schema(self) -> None:
        address = self._settings.address
        try:
            connection = await connect(address.dsn, "command", pooled=address.pooled)
            try:
                problem = (await read_versions(connection)).problem()
            finally:
                await connection.close()
        except (EngineGone, Refusal) as error:
            raise problem_of(self._name, error) from error
        if problem:
            raise StorageError(self._name, problem)

    def _open(self) -> Opened:
        if self._opened is None:
            raise StoreClosed(self._name)
        return self._opened
