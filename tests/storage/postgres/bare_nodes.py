"""Nodes on a PostgreSQL server that have no journals and queues: only what makes them nodes."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.support.waiting import until
from waypost.storage.clock import StoreClock, steady_clock
from waypost.storage.engine_state import Lag
from waypost.storage.postgres.driver import Connection, Pool, connect
from waypost.storage.postgres.nodes.entering import Entrance
from waypost.storage.postgres.nodes.history import Applied
from waypost.storage.postgres.nodes.nodes import NodeParts, PostgresNodes
from waypost.storage.postgres.nodes.opening import become_node
from waypost.storage.postgres.schema import migrate


async def prepare(url: str) -> None:
    """Make the schema in an empty database."""
    connection = await connect(url, "preparing")
    await migrate(connection)
    await connection.close()


class NoMessages:
    """Links between nodes on which nothing is sent."""

    ways = None

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self.times_renewed = 0

    def send(self, receiver: str | None, topic: str, message: bytes, *, may_drop: bool = False) -> None:
        """Send nothing."""

    def listen(self, topic: str, receive: Callable[[str, bytes], None] | None) -> None:
        """Hear nothing."""

    def came(self, name: str, address: str) -> None:
        """Note a node."""
        self.known[name] = address

    def gone(self, name: str) -> None:
        """Forget a node."""
        self.known.pop(name, None)

    def renewed(self) -> None:
        """Note that this node came back from the dead."""
        self.times_renewed += 1


@dataclass(slots=True)
class BareNode:
    """A node, and what it was told."""

    nodes: PostgresNodes
    pool: Pool
    hearing: Connection
    clock: StoreClock
    messages: NoMessages
    told: list[tuple[str, bool]] = field(default_factory=list)
    freed_: list[tuple[str, str]] = field(default_factory=list)
    eras: list[str] = field(default_factory=list)
    applied: list[Applied] = field(default_factory=list)
    lag: Lag = field(default_factory=Lag)
    when_freed: Callable[[str, str], None] | None = None

    @property
    def name(self) -> str:
        """Its name."""
        return self.nodes.name

    def arrived(self, queue: str, messages: Sequence[Any], enqueued: Any) -> None:
        """Not called here."""
        raise AssertionError

    def released(self, due: Any) -> None:
        """Not called here."""
        raise AssertionError

    def freed(self, queue: str, consumer: str) -> None:
        """Note a consumer."""
        self.freed_.append((queue, consumer))
        if self.when_freed is not None:
            self.when_freed(queue, consumer)

    async def value(self, query: str, *arguments: object) -> Any:
        """Ask the engine."""
        async with self.pool.take() as connection:
            return await connection.value(query, *arguments)


async def open_node(
    url: str, name: str = "", *, wall_time: Callable[[], float] = time.time, options: dict[str, Any] | None = None
) -> BareNode:
    """Become a node; the caller closes it by `close_node`."""
    name = name or secrets.token_hex(4)
    steady = steady_clock()

    async def opener() -> Connection:
        return await connect(url, name)

    pool, clock, messages = Pool(1, opener), StoreClock(wall_time, steady), NoMessages()
    node: BareNode | None = None

    async def forked() -> None:
        if node is not None:
            node.eras.append(node.nodes._parts.history.era or "")

    async def nothing(*_: object) -> None:
        await asyncio.sleep(0)

    entrance = Entrance(name, "127.0.0.1:1", "1", options or {}, 60.0, 5, 1)
    identity, history, first = await become_node(
        "test", entrance, pool, steady, lambda: [] if node is None else node.applied, forked
    )
    parts = NodeParts(
        store="test",
        entrance=entrance,
        identity=identity,
        history=history,
        clock=clock,
        steady=steady,
        upkeep=pool,
        beat_opener=opener,
        messages=messages,
        catch_up=nothing,
        settled=nothing,
        owns=nothing,
        lag=lambda: Lag() if node is None else node.lag,
    )
    nodes = PostgresNodes(parts, first)
    hearing = await opener()
    await hearing.listen("waypost", lambda _: nodes.noticed())
    node = BareNode(nodes, pool, hearing, clock, messages)
    nodes.watch(lambda other, is_there: node.told.append((other, is_there)))
    nodes.follow_queues(node)
    nodes.start()
    return node


async def close_node(node: BareNode) -> None:
    """Say goodbye."""
    await node.hearing.close()
    await node.nodes.close()
    await node.pool.close()


async def kill_node(node: BareNode) -> None:
    """End a node of this process without a goodbye: its beats stop, and its connections are gone."""
    if node.nodes._work is not None:
        node.nodes._work.cancel()
    await node.nodes._beats.stop()
    await node.hearing.close()
    await node.pool.close()


@asynccontextmanager
async def bare_nodes(url: str, number: int) -> AsyncIterator[list[BareNode]]:
    """Open some nodes on an empty database, ``n0`` and so on, that know each other."""
    await prepare(url)
    opened: list[BareNode] = []
    try:
        for index in range(number):
            opened.append(await open_node(url, f"n{index}"))
        for one in opened:
            one.nodes.noticed()
            await until(lambda one=one: len(one.nodes.others) == number - 1, "they know each other")  # type: ignore[misc]
        yield opened
    finally:
        for one in opened:
            await close_node(one)
