"""Several workers in one process that hand connections over to each other, without the parent that starts workers.

Or several nodes that forward them over the network, without the engine that nodes share.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn

import waypost
from tests.server.model_client import hub_of
from tests.support.waiting import until
from waypost.application import join_workers
from waypost.storage.following import Ways
from waypost.storage.postgres.mesh.dialing import Person
from waypost.storage.postgres.mesh.mesh import Mesh as NodeLinks
from waypost.storage.postgres.mesh.progress import Progress
from waypost.storage.postgres.mesh.ways import MeshWays, Place
from waypost.transports.handover.handover import Handover
from waypost.transports.uvicorn_runner import bind, configure

__all__ = ["Mesh", "MeshPeers", "Places", "Worker", "make_protocol", "serving_nodes", "serving_workers"]


class MeshPeers:
    """What one worker is told of the others. `waypost.transports.peers.Peers`."""

    def __init__(self, mesh: Mesh, number: int) -> None:
        self.number = number
        self.came: Callable[[int, socket.socket], None] | None = None
        self.gone: Callable[[int], None]
        self.leaving: Callable[[int], None]
        self._mesh = mesh

    def watch(
        self,
        came: Callable[[int, socket.socket], None],
        gone: Callable[[int], None],
        leaving: Callable[[int], None],
    ) -> None:
        """Connect to all that watch already."""
        self.came, self.gone, self.leaving = came, gone, leaving
        for other in self._mesh.peers.values():
            if other is not self and other.came is not None:
                ours, theirs = socket.socketpair()
                ours.setblocking(False)
                theirs.setblocking(False)
                came(other.number, ours)
                other.came(self.number, theirs)


class Mesh:
    """All of them."""

    def __init__(self) -> None:
        self.peers: dict[int, MeshPeers] = {}

    def add(self, number: int) -> MeshPeers:
        """Return what a new worker is told."""
        self.peers[number] = MeshPeers(self, number)
        return self.peers[number]

    def remove(self, number: int) -> None:
        """Tell the others that a worker is gone."""
        self.peers.pop(number, None)
        for other in self.peers.values():
            if other.came is not None:
                other.gone(number)


class Places:
    """Where nodes are, as the engine would say.

    Attributes:
        found: The names and addresses of living nodes, by their numbers.
        looked: The numbers that were looked up.
    """

    def __init__(self) -> None:
        self.found: dict[int, Place] = {}
        self.looked: list[int] = []

    async def find(self, number: int) -> Place | None:
        """Look a number up."""
        self.looked.append(number)
        return self.found.get(number)

    async def enter(self, number: int, label: str = "") -> NodeLinks:
        """Become a node; returns its links, whose ``ways`` are there."""
        links = NodeLinks("the test's", Person(f"n{number}", b"secret"), Progress(), lambda ready: ready())
        self.found[number] = (links.me.name, await links.start("127.0.0.1"))
        links.ways = MeshWays(links, number, self.find, label)
        return links


@dataclass
class Worker:
    """One worker.

    Attributes:
        io: Its server, with clients of its own.
        handover: Its part in handing over.
        port: Where it listens. Real workers share one port; here a test says which worker a request reaches.
        server: uvicorn.
    """

    io: waypost.Server
    handover: Handover
    port: int
    server: uvicorn.Server

    def die(self, mesh: Mesh) -> None:
        """Be gone at once, as after a kill."""
        mesh.remove(int(self.handover.worker))
        self.handover.close()
        for listening in self.server.servers:
            listening.close()
        for connection in list(self.server.server_state.connections):
            transport = getattr(connection, "transport", None) or getattr(connection, "_transport", None)
            if transport is not None:
                transport.abort()

    @property
    def passed(self) -> tuple[int, int, int, int]:
        """How many requests were foreign; connections handed over, forwarded, refused."""
        counters = self.io.state().counters
        return counters.foreign_requests, counters.handed_over, counters.forwarded, counters.refused_handovers


@asynccontextmanager
async def serving_workers(
    count: int = 2,
    application: Callable[[waypost.Server], Any] = lambda io: io,
    make: Callable[[], waypost.Server] = lambda: waypost.Server(drain_s=0.0),
    mesh: Mesh | None = None,
    **options: Any,
) -> AsyncIterator[list[Worker]]:
    """Serve; keywords change uvicorn's configuration."""
    mesh = mesh or Mesh()
    async with AsyncExitStack() as ends:
        workers = [
            await ends.enter_async_context(_serving(mesh, number, application, make(), options))
            for number in range(1, count + 1)
        ]
        yield workers


@asynccontextmanager
async def serving_nodes(
    count: int = 2,
    application: Callable[[waypost.Server], Any] = lambda io: io,
    make: Callable[[], waypost.Server] = lambda: waypost.Server(drain_s=0.0),
    places: Places | None = None,
    mesh: Mesh | None = None,
    labels: str = "",
    **options: Any,
) -> AsyncIterator[list[Worker]]:
    """Serve on nodes that reach each other over the network; keywords change uvicorn's configuration.

    Args:
        count: How many.
        application: Puts a server into an application.
        make: Makes a server.
        places: Where the nodes are.
        mesh: A parent that links them with each other too, on one machine; without it they have none.
        labels: The labels of their machines, one letter each.
        options: Changes of uvicorn's configuration.
    """
    places = places or Places()
    async with AsyncExitStack() as ends:
        workers = []
        for number in range(1, count + 1):
            links = await places.enter(number, labels[number - 1 : number])
            ends.push_async_callback(links.close)
            serving = _serving(mesh, number, application, make(), options, links.ways)
            workers.append(await ends.enter_async_context(serving))
        yield workers


@asynccontextmanager
async def _serving(
    mesh: Mesh | None,
    number: int,
    application: Callable[[waypost.Server], Any],
    io: waypost.Server,
    options: dict[str, Any],
    ways: Ways | None = None,
) -> AsyncIterator[Worker]:
    handover = Handover(None if mesh is None else mesh.add(number))
    join_workers(io, handover)
    if ways is not None:
        handover.find_ways = lambda: ways
        hub_of(io).engine.worker = ways.suffix
    io.on("echo", lambda socket, *args: args)
    io.on("size", lambda socket, text: len(text))
    io.on("worker", lambda socket: number)
    listeners = bind("127.0.0.1", 0)
    config = configure(application(io), io.options, handover)
    for name, value in options.items():
        setattr(config, name, value)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(listeners))
    await until(lambda: server.started, "uvicorn has started")
    handover.start(lambda: make_protocol(server))
    worker = Worker(io, handover, int(listeners[0].getsockname()[1]), server)
    try:
        yield worker
    finally:
        for connection in hub_of(io).engine.connections():
            connection.abort("the test is over")
        if mesh is not None:
            mesh.remove(number)
        handover.close()
        server.should_exit = True
        await task
        await io.close()
        for listener in listeners:
            listener.close()


def make_protocol(server: uvicorn.Server) -> Any:
    """Make the protocol of a new connection, as uvicorn does."""
    make: Any = server.config.http_protocol_class
    return make(config=server.config, server_state=server.server_state, app_state=server.lifespan.state)
