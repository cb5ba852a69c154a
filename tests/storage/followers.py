"""Several nodes on one store for tests of the contract between them, and followers that note what they are told."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol

from tests.storage.backends import Clock
from tests.support.postgres_nodes import PostgresEngine
from waypost.storage.base import Journal, Store
from waypost.storage.choose import Clocks, StoreOptions
from waypost.storage.following import Nodes
from waypost.storage.host.host import StoreHost
from waypost.storage.host.outgoing import Limits
from waypost.storage.journal_records import ExpiredSession, Retention
from waypost.storage.queue_records import Due, Enqueued, NewMessageRow
from waypost.storage.remote.store import RemoteStore
from waypost.storage.wire.link import Link, memory_link
from waypost.storage.wire.socket_link import socket_link

HOSTED = ["memory", "sqlite", "sqlite-socket"]
"""Stores with a host, and how nodes are linked with it: within one loop, or over sockets."""

ENGINES = [*HOSTED, "postgresql"]
"""All stores that several nodes may have open."""


class Rows:
    """A `Follower` that notes each row, and where the journal stands at that moment."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.rows: list[tuple[object, ...]] = []
        self.claims: list[bytes] = []
        journal.follow(self)

    def appended(self, position: int, record: bytes) -> None:
        assert self.journal.top == position, "top is the applied state"
        self.rows.append((position, record))

    def joined(self, rooms: Collection[str] | None, except_: Collection[str], joined: Collection[str]) -> None:
        self.rows.append(("joined", rooms, except_, joined))

    def left(self, rooms: Collection[str] | None, except_: Collection[str], left: Collection[str]) -> None:
        self.rows.append(("left", rooms, except_, left))

    def ended(
        self,
        rooms: Collection[str] | None,
        except_: Collection[str],
        sessions: Collection[ExpiredSession],
        note: bytes,
    ) -> None:
        self.rows.append(("ended", rooms, except_, sorted(one.sid for one in sessions), note))

    def jumped(self) -> None:
        self.rows.append(("jumped", self.journal.top))

    def claimed(self, key: bytes) -> None:
        self.claims.append(key)

    async def append(self, record: bytes) -> int:
        """Append an entry, and note it when it has taken effect."""

        def note(position: int) -> None:
            assert self.journal.top == position
            self.rows.append((position, record))

        return await self.journal.append(record, note)


class QueueNews:
    """A `QueueFollower` that notes what it is told."""

    def __init__(self) -> None:
        self.arrivals: list[tuple[str, list[str], list[int]]] = []
        self.due: list[Due] = []
        self.free: list[tuple[str, str]] = []

    def arrived(self, queue: str, messages: Sequence[NewMessageRow], enqueued: Enqueued) -> None:
        positions = [one.position for one in enqueued.accepted]
        self.arrivals.append((queue, [one.id for one in messages], positions))

    def released(self, due: Due) -> None:
        self.due.append(due)

    def freed(self, queue: str, consumer: str) -> None:
        self.free.append((queue, consumer))


class Engine(Protocol):
    """What nodes have their stores on."""

    @property
    def living(self) -> Collection[str]:
        """The names of the nodes that are alive."""
        ...

    def make_store(self, name: str, options: StoreOptions, clocks: Clocks) -> Store:
        """Make a node's store."""
        ...

    def kill(self, name: str) -> None:
        """Let a node die: nothing that it still does reaches the engine."""
        ...

    async def close(self) -> None:
        """Remove it; the stores of living nodes are closed."""
        ...


class Hosted:
    """A host, with nodes that are linked with it.

    Attributes:
        host: The host.
        links: The nodes' sides of the links, by name.
    """

    def __init__(self, host: StoreHost, *, over_sockets: bool) -> None:
        self.host = host
        self.links: dict[str, Link] = {}
        self._over_sockets = over_sockets

    @property
    def living(self) -> Collection[str]:
        return self.host.nodes

    def make_store(self, name: str, options: StoreOptions, clocks: Clocks) -> Store:
        async def connect() -> Link:
            theirs, self.links[name] = await self.make_link()
            self.host.attach(theirs, name)
            return self.links[name]

        return RemoteStore(connect, options, clocks)

    async def make_link(self) -> tuple[Link, Link]:
        """Return the host's side of a link, and the node's."""
        if not self._over_sockets:
            return memory_link()
        ours, theirs = socket.socketpair()
        return await socket_link(ours), await socket_link(theirs)

    def kill(self, name: str) -> None:
        self.host.detach(name, "the test has killed it")

    async def close(self) -> None:
        await self.host.close()


class Node:
    """One node.

    Attributes:
        name: Its name.
        store: Its store.
        clock: Its clock.
    """

    def __init__(self, cluster: Cluster, name: str, clock: Clock) -> None:
        self.name = name
        self.clock = clock
        self.store = cluster.engine.make_store(name, cluster.options, Clocks(wall_time=clock))
        self._cluster = cluster

    @property
    def nodes(self) -> Nodes:
        nodes = self.store.nodes
        assert nodes is not None
        return nodes

    @property
    def link(self) -> Link | None:
        """Its side of the link with its host, if it has one."""
        engine = self._cluster.engine
        return engine.links.get(self.name) if isinstance(engine, Hosted) else None

    async def journal(self, name: str = "/") -> Rows:
        """Open a journal, and follow it."""
        return Rows(await self.store.journal(name))

    def kill(self) -> None:
        """Let it die: the engine takes nothing more from it."""
        self._cluster.engine.kill(self.name)


class Cluster:
    """Nodes on one engine.

    Attributes:
        engine: The engine.
        options: The options of the store.
        clock: The engine's clock, and that of all nodes without one of their own.
    """

    def __init__(
        self, engine: str, directory: Path, *, limits: Limits | None = None, retention: Retention | None = None
    ) -> None:
        kind, _, link = engine.partition("-")
        self.clock = Clock()
        self.engine: Engine
        if kind == "postgresql":
            database = PostgresEngine(self.clock)
            self.engine, spec = database, database.url
        else:
            host = StoreHost(limits=limits, clocks=Clocks(wall_time=self.clock))
            self.engine = Hosted(host, over_sockets=bool(link))
            spec = "memory:" if kind == "memory" else f"sqlite:{directory / 'store.db'}"
        self.options = StoreOptions(spec=spec, orphan_ttl_s=100, retention=retention or Retention(), tail_bytes=1000)
        self._nodes: list[Node] = []

    @property
    def host(self) -> StoreHost:
        """The host, of an engine that has one."""
        assert isinstance(self.engine, Hosted)
        return self.engine.host

    @property
    def living(self) -> Collection[str]:
        """The names of the nodes that are alive."""
        return self.engine.living

    async def add(self, name: str, clock: Clock | None = None) -> Node:
        """Let a node come."""
        node = Node(self, name, clock or self.clock)
        self._nodes.append(node)
        await node.store.open()
        return node

    def node(self, name: str) -> Node:
        """Return the node of that name."""
        (found,) = [one for one in self._nodes if one.name == name]
        return found

    def waiting_bytes(self, name: str) -> int:
        """Return what waits in the host for a node."""
        return sum(one.outgoing.waiting_bytes for one in self.host._linked if one.name == name)

    def under_way(self, name: str) -> int:
        """Return how many requests of a node the host has begun and not ended."""
        return sum(len(one._calls) for one in self.host._linked if one.name == name)

    async def close(self) -> None:
        for node in self._nodes:
            if node.link is not None:
                node.link.resume()
            await node.store.close()
        await self.engine.close()


@asynccontextmanager
async def cluster(
    engine: str, directory: Path, *, limits: Limits | None = None, retention: Retention | None = None
) -> AsyncIterator[Cluster]:
    """Have a host, and close it and its nodes in the end."""
    async with AsyncExitStack() as stack:
        one = Cluster(engine, directory, limits=limits, retention=retention)
        stack.push_async_callback(one.close)
        yield one


async def settled(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition, with a deadline."""
    try:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.001)
    except TimeoutError:
        raise AssertionError(f"never: {what}") from None


async def in_step(*rows: Rows) -> None:
    """Wait until all nodes have applied what was written so far."""
    for one in rows:
        await one.journal.find_session(b"nobody")
