"""Several servers on one store, in one process, which freeze and die at will, and clients that go between them."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import waypost
from tests.server.model_client import ModelClient, hub_of, running
from tests.support.chosen_store import make_nodes
from tests.support.nodes import Nodes, join
from tests.support.postgres_nodes import PostgresEngine

__all__ = ["Cluster", "cluster"]


class Cluster:
    """Several servers on one store.

    Attributes:
        nodes: The store's host and the links, or the database and the lines.
        servers: The servers, in the order in which they were started.
    """

    def __init__(self, nodes: Nodes | PostgresEngine) -> None:
        self.nodes = nodes
        self.servers: list[waypost.Server] = []
        self._names: dict[waypost.Server, str] = {}

    def adopt(self, io: waypost.Server) -> None:
        """Let a server take its store from the host; before its start."""
        self._names[io] = secrets.token_hex(4)
        join(self.nodes, io, self._names[io])
        self.servers.append(io)

    def replace(self, number: int, io: waypost.Server) -> None:
        """Let another server take the place of one; before its start."""
        self.adopt(io)
        self.servers[number] = self.servers.pop()

    def name(self, number: int) -> str:
        """Return the name of a server's node."""
        return self._names[self.servers[number]]

    def freeze(self, number: int) -> None:
        """Let a server see nothing more of its store, as if its process stood still."""
        self.nodes.freeze(self.name(number))

    def thaw(self, number: int) -> None:
        """Let a frozen server go on."""
        self.nodes.thaw(self.name(number))

    def kill(self, number: int) -> None:
        """Cut a server off from its store, as a kill does."""
        self.nodes.kill(self.name(number))
        self.thaw(number)

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
    beside: Cluster | None = None,
    runs: bool = True,
    **options: Any,
) -> AsyncIterator[Cluster]:
    """Make several servers on one store, and start them.

    Args:
        count: How many.
        make: Makes each server from its number; without it, each is made with the options alone.
        beside: Others, whose store they share; one of their own without it.
        runs: Whether they are started; otherwise the caller does it.
        options: The options of the servers.
    """
    nodes = Cluster(make_nodes() if beside is None else beside.nodes)
    async with AsyncExitStack() as stack:
        if beside is None:
            stack.push_async_callback(nodes.nodes.close)
        for number in range(count):
            io = waypost.Server(drain_s=0.0, **options) if make is None else make(number)
            nodes.adopt(io)
            if runs:
                await stack.enter_async_context(running(io))
        yield nodes
