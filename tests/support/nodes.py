"""Several nodes on one store, in one event loop: a host, and stores or servers that are linked with it in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Protocol

import waypost
from waypost.server.hub import Hub
from waypost.storage.base import Store
from waypost.storage.choose import MACHINE_CLOCKS, Clocks, StoreOptions
from waypost.storage.host.host import StoreHost
from waypost.storage.host.outgoing import Limits
from waypost.storage.remote.store import RemoteStore
from waypost.storage.wire.link import Link, MemoryLink, memory_link


class Nodes:
    """A host, and the links of its nodes.

    Attributes:
        host: The host.
        links: The nodes' sides of the links, by the nodes' names.
    """

    def __init__(self, limits: Limits | None = None, clocks: Clocks = MACHINE_CLOCKS) -> None:
        self.host = StoreHost(limits=limits, clocks=clocks)
        self.links: dict[str, MemoryLink] = {}

    def make_store(self, name: str, options: StoreOptions, clocks: Clocks = MACHINE_CLOCKS) -> RemoteStore:
        """Make a node's store, which takes another link each time it is opened."""

        async def connect() -> Link:
            theirs, ours = memory_link()
            self.host.attach(theirs, name if name not in self.links else "")
            self.links[name] = ours
            return ours

        return RemoteStore(connect, options, clocks)

    def kill(self, name: str) -> None:
        """Let a node die: nothing that it still does reaches the store, and all that it asks for fails."""
        self.host.detach(name, "the test has killed it")

    def freeze(self, name: str) -> None:
        """Let a node see nothing more of the store."""
        self.links[name].pause()

    def thaw(self, name: str) -> None:
        """Let a frozen node go on."""
        self.links[name].resume()

    async def close(self) -> None:
        """Close the host."""
        await self.host.close()


@asynccontextmanager
async def stores(number: int, options: StoreOptions, limits: Limits | None = None) -> AsyncIterator[list[Store]]:
    """Open a host and some stores on it, named ``n0``, ``n1`` and so on."""
    nodes = Nodes(limits)
    opened: list[Store] = [nodes.make_store(f"n{index}", options) for index in range(number)]
    async with AsyncExitStack() as stack:
        stack.push_async_callback(nodes.host.close)
        for one in opened:
            await one.open()
            stack.push_async_callback(one.close)
        yield opened


class MakesStores(Protocol):
    """Makes the stores of nodes."""

    def make_store(self, name: str, options: StoreOptions, clocks: Clocks) -> Store: ...


def join(nodes: MakesStores, server: waypost.Server, name: str) -> None:
    """Let a server be a node, before it starts."""
    hub: Hub = server._hub
    hub.use_store_from(lambda options, clocks: nodes.make_store(name, options, clocks))


@asynccontextmanager
async def servers(number: int, **options: Any) -> AsyncIterator[tuple[Nodes, Sequence[waypost.Server]]]:
    """Start some servers on one host, named ``n0``, ``n1`` and so on; register handlers by ``prepare`` before.

    Args:
        number: How many.
        options: The options of each; ``prepare`` is called with each server before it starts.
    """
    prepare = options.pop("prepare", None)
    nodes = Nodes()
    started = [waypost.Server(**options) for _ in range(number)]
    async with AsyncExitStack() as stack:
        stack.push_async_callback(nodes.host.close)
        for index, server in enumerate(started):
            join(nodes, server, f"n{index}")
            if prepare is not None:
                prepare(server)
            await server.start()
            stack.push_async_callback(server.close)
        yield nodes, started
