"""A store that another process, or another part of this one, has open and serves over a link."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import msgspec

from waypost.errors import StorageError, StoreClosed, StoreLost
from waypost.storage.answer_base import Answers
from waypost.storage.base import Journal
from waypost.storage.choose import MACHINE_CLOCKS, Clocks, StoreOptions, make_store
from waypost.storage.clock import StoreClock
from waypost.storage.following import Nodes
from waypost.storage.journal_records import Capabilities, ExpiredSession
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import Configuration, Due, ExpiredConsumer, QueueRow
from waypost.storage.remote.answers import RemoteAnswers
from waypost.storage.remote.connection import Call, Connection
from waypost.storage.remote.following import Following
from waypost.storage.remote.journal import RemoteJournal
from waypost.storage.remote.nodes import RemoteNodes
from waypost.storage.remote.queue import RemoteQueue, SharedFile
from waypost.storage.store_numbers import StoreCounts, StoreSize
from waypost.storage.trouble import Trouble
from waypost.storage.wire import reports, requests
from waypost.storage.wire.calls import STORE
from waypost.storage.wire.link import Link
from waypost.version import __version__

__all__ = ["RemoteStore"]

_WELCOME = msgspec.msgpack.Decoder(reports.Welcome)
_OPENED = msgspec.msgpack.Decoder(reports.Opened)


@dataclass(frozen=True, slots=True)
class _Opened:
    connection: Connection
    nodes: RemoteNodes
    file: SharedFile
    following: Following
    loading: dict[str, asyncio.Future[RemoteJournal]] = field(default_factory=dict)


class RemoteStore:
    """A store served by a `StoreHost`; see `waypost.storage.base.Store`.

    This node delivers what its stream brings: the calls of ``on_commit`` for its own writes, and those of followers
    for the writes of other nodes, come in one order. If the host goes away, calls that were under way raise
    `StorageUncertain` if they may have changed something, later ones `StoreLost`.

    Args:
        connect: Opens a link to the host; called by `open`.
        options: The store's options; they must be those that the host has opened the store with.
        clocks: This node's clocks.
    """

    def __init__(
        self, connect: Callable[[], Awaitable[Link]], options: StoreOptions, clocks: Clocks = MACHINE_CLOCKS
    ) -> None:
        self._connect = connect
        self._options = options
        self._capabilities = make_store(options).capabilities
        self._clock = StoreClock(clocks.wall_time, clocks.steady_time)
        self._opened: _Opened | None = None
        self._changing = asyncio.Lock()
        self._name = options.path() or "memory:"

    @property
    def capabilities(self) -> Capabilities:
        """The guarantees of this store."""
        return self._capabilities

    @property
    def clock(self) -> StoreClock:
        """The clock on which the store measures durations."""
        return self._clock

    @property
    def nodes(self) -> Nodes | None:
        """The other nodes on this store, while it is open."""
        return None if self._opened is None else self._opened.nodes

    async def open(self) -> None:
        """Become a node of the host's store.

        Raises:
            ConfigurationError: The host has opened the store with other options, or is of another version.
            StorageError: The store can't be opened, or is open already.
        """
        async with self._changing:
            if self._opened is not None:
                raise StorageError(self._name, "it is open already")
            link = await self._connect()
            connection = Connection(self._name, link)
            link.start(connection)
            try:
                self._opened = await self._join(connection)
            except BaseException:
                link.close()
                raise

    async def _join(self, connection: Connection) -> _Opened:
        opened: _Opened | None = None

        def begin(welcome: reports.Welcome) -> None:
            # At once: what stands behind the welcome in the stream is handled with it.
            nonlocal opened
            connection.credit_bytes = welcome.credit_bytes
            self._clock.follow(welcome.now, welcome.ahead_s)
            nodes = RemoteNodes(welcome.name, welcome.others, connection)
            file = SharedFile(welcome.path, self._options.queue_limits, self._clock)
            opened = _Opened(connection, nodes, file, Following(connection, self._clock))

        call = connection.next_call()
        hello = requests.Hello(call, __version__, self._options)
        await connection.ask(call, hello, Call(connection.new_future(), _WELCOME.decode, None, begin))
        if opened is None:
            raise StoreClosed(self._name)
        return opened

    async def close(self) -> None:
        """Finish the pending calls, and leave the host. A second call does nothing."""
        async with self._changing:
            if self._opened is not None:
                await self._opened.connection.close()
                self._opened = None

    async def journal(self, name: str) -> Journal:
        """Return a namespace's journal; if it does not exist, make it. The same object for the same name."""
        opened = self._open()
        opened.connection.check()
        loading = opened.loading.get(name)
        if loading is None:
            loading = opened.loading[name] = asyncio.ensure_future(self._load(opened, name))
        try:
            return await asyncio.shield(loading)
        except StorageError:
            opened.loading.pop(name, None)
            raise

    async def _load(self, opened: _Opened, name: str) -> RemoteJournal:
        journals: list[RemoteJournal] = []

        def found(one: reports.Opened) -> None:
            # At once: rows of the journal follow in the stream.
            journals.append(RemoteJournal(name, one, opened.connection, self._clock))
            opened.following.add(journals[0])

        call = opened.connection.next_call()
        pending = Call(opened.connection.new_future(), _OPENED.decode, f"make journal {name}", found)
        await opened.connection.ask(call, requests.OpenJournal(call, name), pending)
        return journals[0]

    async def followed_journals(self) -> list[str]:
        """Return the names of the journals that have sessions, sorted."""
        names: list[str] = await self._plain("followed_journals")
        return names

    async def drop_journal(self, name: str) -> bool:
        """Remove a journal without sessions, which no other node has opened; returns whether it was removed.

        In any case this node has it no longer open.
        """
        opened = self._open()
        is_dropped: bool = await self._plain("drop_journal", name, changes=True)
        loading = opened.loading.pop(name, None)
        if loading is not None and loading.done():
            opened.following.remove(loading.result())
        return is_dropped

    async def append_once(self, journal: str, record: bytes, write_id: str, window_s: float) -> bool:
        """Append an entry, unless one of the same id was appended within its window."""
        is_new: bool = await self._plain("append_once", journal, record, write_id, window_s, changes=True)
        return is_new

    def queue(self, name: str) -> StoredQueue:
        """Return a handle on a queue, which need not exist."""
        opened = self._open()
        return RemoteQueue(name, opened.connection, opened.file)

    def answers(self) -> Answers:
        """Return a handle on the stored answers to clients."""
        return RemoteAnswers(self._open().connection)

    async def queues(self, *, after: str = "", max_queues: int = 1000, idle: bool = True) -> list[QueueRow]:
        """Return the states of queues by name."""
        found: list[QueueRow] = await self._plain("queues", after, max_queues, idle)
        return found

    async def configurations(self) -> list[Configuration]:
        """Return the configuration of every queue that has one."""
        found: list[Configuration] = await self._plain("configurations")
        return found

    async def release_due(self) -> Due:
        """Assign positions to messages that are due, and to messages that other programs have published."""
        due: Due = await self._plain("release_due", changes=True)
        return due

    def watch(self, changed: Callable[[], None]) -> None:
        """Call a function soon after another program has written to the store."""
        self._open().following.watch(changed)

    async def schedule_noted(self, name: str) -> float | None:
        """Return the time that was noted for a schedule."""
        noted: float | None = await self._plain("schedule_noted", name)
        return noted

    async def note_schedule(self, name: str, at: float) -> None:
        """Note a time for a schedule."""
        await self._plain("note_schedule", name, at, changes=True)

    def watch_loss(self, lost: Callable[[StoreLost], None]) -> None:
        """Call a function when the host is gone, or can store nothing any more."""
        self._open().following.watch_loss(lost)

    def troubles(self) -> tuple[Trouble, ...]:
        """Return what keeps the store from taking all that it should, as the host told last."""
        return self._open().following.troubles()

    def take_counts(self) -> StoreCounts:
        """Return what the host has told of commits since the last call."""
        return StoreCounts() if self._opened is None else self._opened.following.take_counts()

    async def size(self) -> StoreSize:
        """Return the store's size."""
        size: StoreSize = await self._plain("size")
        return size

    async def expire_consumers(self, idle_s: float, attached: Collection[tuple[str, str]]) -> list[ExpiredConsumer]:
        """Remove consumers that no node has used for a time."""
        expired: list[ExpiredConsumer] = await self._plain("expire_consumers", idle_s, attached, changes=True)
        return expired

    async def expire_sessions(self) -> list[ExpiredSession]:
        """Remove detached sessions whose time is over; returns those that this node is to tell of."""
        expired: list[ExpiredSession] = await self._plain("expire_sessions", changes=True)
        return expired

    async def trim(self) -> int:
        """Trim every journal to its retention; returns the number of removed entries."""
        trimmed: int = await self._plain("trim", changes=True)
        return trimmed

    def _open(self) -> _Opened:
        if self._opened is None:
            raise StoreClosed(self._name)
        return self._opened

    def _plain(self, method: str, *arguments: Any, changes: bool = False) -> Any:
        return self._open().connection.plain(STORE[method], None, *arguments, changes=changes)
