"""The store in a PostgreSQL database: each server process that opens it is a node of one service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection

from waypost.errors import StorageError, StoreClosed, StoreLost
from waypost.logs import fields, get_logger
from waypost.storage.answer_base import AnswerLimits, Answers
from waypost.storage.base import ANSWER_TTL_S, PATIENCE_S, Journal
from waypost.storage.clock import StoreClock
from waypost.storage.database_address import parse_address
from waypost.storage.following import Nodes
from waypost.storage.journal_records import Capabilities, ExpiredSession, Retention
from waypost.storage.postgres.journals.expiry import expire_sessions
from waypost.storage.postgres.marks import trim_marks
from waypost.storage.postgres.opening import Opened, Settings, open_parts
from waypost.storage.postgres.outbox import put_entry
from waypost.storage.postgres.sizes import read_size
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import Configuration, Due, ExpiredConsumer, QueueLimits, QueueRow
from waypost.storage.store_numbers import StoreCounts, StoreSize
from waypost.storage.trouble import Trouble

__all__ = ["PostgresStore"]

_logger = get_logger(__name__)


class PostgresStore:
    """Journals, sessions, queues and answers in a PostgreSQL database; see `waypost.storage.base.Store`.

    Any number of stores, in any number of processes and machines, are open on one database: each is a node. What is
    reported as committed survives a crash of the server's machine; with synchronous replication also its loss.

    Guarantee 1, one order of all writes, holds for each journal and for each queue.

    Args:
        url: The database; see `parse_address`.
        retention: The limits of each journal; `trim` applies them.
        queue_limits: The limits of each queue without its own.
        answer_ttl_s: Seconds for which an answer is kept.
        answer_limits: The limits on the bytes of answers.
        tail_bytes: The bytes of each journal's newest records that memory keeps too.
        orphan_ttl_s: Seconds for which a session is kept whose node is dead.
        patience_s: Seconds for which a write whose answer was lost is settled before it is raised as uncertain.
        wall_time: The wall clock, in seconds since 1970. Another one than the machine's: the engine goes by it, too.
        steady_time: The clock for durations; see `StoreClock`.
        node: This node's name, which none has ever had; "" for a random one, another at each opening.

    Raises:
        ConfigurationError: An option has a value that it does not accept.
    """

    def __init__(
        self,
        url: str,
        *,
        retention: Retention | None = None,
        queue_limits: QueueLimits | None = None,
        answer_ttl_s: float = ANSWER_TTL_S,
        answer_limits: AnswerLimits | None = None,
        tail_bytes: int = 64 << 20,
        orphan_ttl_s: float = 3600,
        patience_s: float = PATIENCE_S,
        wall_time: Callable[[], float] = time.time,
        steady_time: Callable[[], float] | None = None,
        node: str = "",
    ) -> None:
        self._settings = Settings(
            address=parse_address(url),
            retention=retention or Retention(),
            queue_limits=queue_limits or QueueLimits(),
            answer_ttl_s=answer_ttl_s,
            answer_limits=answer_limits or AnswerLimits(),
            tail_bytes=tail_bytes,
            orphan_ttl_s=orphan_ttl_s,
            patience_s=patience_s,
            now=None if wall_time is time.time else wall_time,
            node=node,
        )
        self._name = self._settings.address.shown
        self._clock = StoreClock(wall_time, steady_time)
        self._opened: Opened | None = None
        self._changing = asyncio.Lock()

    @property
    def capabilities(self) -> Capabilities:
        """The guarantees of this store."""
        return Capabilities(durable=True, description=f"PostgreSQL {self._name}, every commit on disk")

    @property
    def clock(self) -> StoreClock:
        """The clock on which the store measures durations; it follows the engine's."""
        return self._clock

    @property
    def nodes(self) -> Nodes | None:
        """The other nodes on this store, while it is open."""
        return None if self._opened is None else self._opened.nodes

    async def open(self) -> None:
        """Become a node of the service whose store is this database. Without a schema in it, one is made.

        Raises:
            ConfigurationError: The server is none that keeps what it reports.
            StorageError: The server can't be reached, or refuses it; its schema is too old or too new; or the store
                is open already.
        """
        async with self._changing:
            if self._opened is not None:
                raise StorageError(self._name, "it is open already")
            self._clock.begin()
            self._opened = await open_parts(self._settings, self._clock)
            self._opened.start()
            nodes = self._opened.nodes
            address = nodes.state().address
            told = fields(node=nodes.name, address=address)
            _logger.info("node %s: other servers reach it at %s", nodes.name, address, extra=told)

    async def close(self) -> None:
        """Finish the pending calls, and leave the service. A second call does nothing."""
        async with self._changing:
            opened, self._opened = self._opened, None
            if opened is not None:
                await opened.close()

    # -- journals and sessions -------------------------------------------------------------------------------

    async def journal(self, name: str) -> Journal:
        """Return a namespace's journal; if it does not exist, make it. The same object for the same name."""
        return await self._open().journals.open(name)

    async def followed_journals(self) -> list[str]:
        """Return the names of the journals that have sessions, sorted."""
        return await self._open().journals.followed()

    async def drop_journal(self, name: str) -> bool:
        """Remove a journal without sessions that no other node has open; this node has it no longer open."""
        return await self._open().journals.drop(name)

    async def expire_sessions(self) -> list[ExpiredSession]:
        """Remove detached sessions whose time is over; returns those that this node is to tell of."""
        opened = self._open()
        await opened.journals.settled()
        return await expire_sessions(opened.engine)

    async def trim(self) -> int:
        """Trim every journal, queue and answer; returns the number of removed entries. One node does it for all."""
        opened = self._open()
        if not opened.nodes.is_maintainer:
            return 0
        trimmed = await opened.journals.trim()
        await opened.queues.trim()
        await opened.answers.trim()
        await trim_marks(opened.engine)
        if opened.nodes.is_maintainer:
            await opened.mover.trim()
        return trimmed

    async def append_once(self, journal: str, record: bytes, write_id: str, window_s: float) -> bool:
        """Keep an entry, which is appended soon, unless its id is remembered then; returns ``True``."""
        await put_entry(self._open().engine, journal, record, write_id, window_s)
        return True

    # -- queues and answers ----------------------------------------------------------------------------------

    def queue(self, name: str) -> StoredQueue:
        """Return a handle on a queue, which need not exist."""
        return self._open().queues.queue(name)

    def answers(self) -> Answers:
        """Return a handle on the stored answers to clients."""
        return self._open().answers

    async def queues(self, *, after: str = "", max_queues: int = 1000, idle: bool = True) -> list[QueueRow]:
        """Return the states of queues by name."""
        return await self._open().queues.queues(after=after, max_queues=max_queues, idle=idle)

    async def configurations(self) -> list[Configuration]:
        """Return the configuration of every queue that has one."""
        return await self._open().queues.configurations()

    async def release_due(self) -> Due:
        """Assign positions to messages that are due, and to messages that other programs have published."""
        return await self._open().queues.release_due()

    def watch(self, changed: Callable[[], None]) -> None:
        """Do nothing: what other programs write, a node of the service moves, and tells the others."""
        self._open()

    async def schedule_noted(self, name: str) -> float | None:
        """Return the wall time in seconds that was noted for a schedule; ``None`` if there is none."""
        return await self._open().queues.schedule_noted(name)

    async def note_schedule(self, name: str, at: float) -> None:
        """Note a wall time in seconds for a schedule."""
        await self._open().queues.note_schedule(name, at)

    def watch_loss(self, lost: Callable[[StoreLost], None]) -> None:
        """Do nothing: an engine that is gone is expected back, and what it has lost begins a generation."""
        self._open()

    async def expire_consumers(self, idle_s: float, attached: Collection[tuple[str, str]]) -> list[ExpiredConsumer]:
        """Remove consumers that no node has used for a time."""
        return await self._open().queues.expire_consumers(idle_s, attached)

    def take_counts(self) -> StoreCounts:
        """Return what this node has counted since the last call."""
        return self._settings.commits.take()

    async def size(self) -> StoreSize:
        """Return the size of the schema, and the times of the journals' oldest entries."""
        return await read_size(self._open().engine)

    def troubles(self) -> tuple[Trouble, ...]:
        """Return what is wrong with the store at the moment."""
        state = self._open().nodes.state()
        found: list[Trouble] = []
        if not state.is_reachable:
            text = "PostgreSQL does not answer: emits fail, live clients stay; it goes on by itself when it is back"
            found.append(Trouble("unreachable", state.unreachable_s, text))
        elif not state.is_ready:
            text = f"this server is {state.lag.seconds:.1f} s behind the other servers' events"
            found.append(Trouble("behind", state.lag.seconds, text))
        return tuple(found)

    def _open(self) -> Opened:
        if self._opened is None:
            raise StoreClosed(self._name)
        return self._opened
