"""Several servers on one store, in one process: a host, and a link in memory to each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import waypost
from tests.server.model_client import ModelClient, hub_of, running
from waypost.storage.host.host import StoreHost
from waypost.storage.remote.store import RemoteStore
from waypost.storage.wire.link import Link, MemoryLink, memory_link

__all__ = ["Cluster", "cluster"]


class Cluster:
    """Several servers on one store.

    Attributes:
        host: The store's host.
        servers: The servers, in the order in which they were started.
    """

    def __init__(self, host: StoreHost) -> None:
        self.host = host
        self.servers: list[waypost.Server] = []
        self._links: dict[waypost.Server, MemoryLink] = {}

    def adopt(self, io: waypost.Server) -> None:
        """Let a server take its store from the host; before its start."""

        async def connect() -> Link:
            ours, theirs = memory_link()
            self.host.attach(theirs)
            self._links[io] = ours
            return ours

        hub_of(io).use_store_from(partial(RemoteStore, connect))
        self.servers.append(io)

    def replace(self, number: int, io: waypost.Server) -> None:
        """Let another server take the place of one; before its start."""
        self.adopt(io)
        self.servers[number] = self.servers.pop()

    def name(self, number: int) -> str:
        """Return the name of a server's node."""
        nodes = hub_of(self.servers[number]).services.store.nodes
        assert nodes is not None
        return nodes.name

    def freeze(self, number: int) -> None:
        """Let a server see nothing more of its store, as if its process stood still."""
        self._links[self.servers[number]].pause()

    def thaw(self, number: int) -> None:
        """Let a frozen server go on."""
        self._links[self.servers[number]].resume()

    def kill(self, number: int) -> None:
        """Cut a server off from its store, as a kill does."""
        link = self._links[self.servers[number]]
        assert link.other is not None
        link.other.end()
        link.end()
        link.resume()

    def client(self, number: int = 0, namespace: str = "/") -> ModelClient:
        """Make a client, which will connect to a server."""
        return ModelClient(self.servers[number], namespace)

    def send_to(self, client: ModelClient, number: int) -> None:
        """Let a client's next connection go to a server."""
        client.hub = hub_of(self.servers[number])


@asynccontextmanager
async def cluster(
    count: int,
    make: Callable[[int], waypost.Server] | None = None,
    *,
    host: StoreHost | None = None,
    runs: bool = True,
    **options: Any,
) -> AsyncIterator[Cluster]:
    """Make several servers on one store, and start them.

    Args:
        count: How many.
        make: Makes each server from its number; without it, each is made with the options alone.
        host: The store's host; one of their own without it.
        runs: Whether they are started; otherwise the caller does it.
        options: The options of the servers.
    """
    nodes = Cluster(host or StoreHost())
    async with AsyncExitStack() as stack:
        if host is None:
            stack.push_async_callback(nodes.host.close)
        for number in range(count):
            io = waypost.Server(drain_s=0.0, **options) if make is None else make(number)
            nodes.adopt(io)
            if runs:
                await stack.enter_async_context(running(io))
        yield nodes
