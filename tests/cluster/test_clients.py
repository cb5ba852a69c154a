"""Real clients over real ports: each connection of a client goes to another server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest
import pytest_asyncio

import waypost
from tests.cluster.nodes import Cluster, cluster
from tests.interop.peer import MODES, Peer
from tests.support.link import Link
from tests.support.waiting import until
from waypost.transports.uvicorn_runner import bind, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVERS = 3
HOPS = 12


def make(_: int) -> waypost.Server:
    """Make a server whose handlers tell who they are told of, and answer with what the client's data says."""
    io = waypost.Server(drain_s=0.2, ping_interval_s=1, ping_timeout_s=2)

    @io.on("count")
    async def count(socket: waypost.Socket, number: int) -> list[int]:
        before = socket.data.get("count", 0)
        socket.data["count"] = number
        return [before]

    return io


@dataclass
class Site:
    """Several servers of one store on ports of their own, and a line to them that is led to another one at will."""

    nodes: Cluster
    ports: list[int]
    line: Link

    def lead_to(self, number: int) -> None:
        """Let the next connections over the line go to a server."""
        self.line.port = self.ports[number]

    async def emit(self, number: int, count: int) -> None:
        """Emit a number on one of the servers."""
        await self.nodes.servers[number].emit("news", count)


@asynccontextmanager
async def site() -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        nodes = await stack.enter_async_context(cluster(SERVERS, make, runs=False))
        ports: list[int] = []
        for io in nodes.servers:
            url = await stack.enter_async_context(running(io, io, bind("127.0.0.1", 0)))
            ports.append(int(url.rpartition(":")[2]))
        line = await stack.enter_async_context(Link.to(ports[0]))
        yield Site(nodes, ports, line)


@pytest_asyncio.fixture(loop_scope="module")
async def three(peer: Peer) -> AsyncIterator[Site]:
    async with site() as three:
        yield three
        await peer.leave_all()


async def hopping(
    three: Site, rng: random.Random, is_back: Callable[[int], bool], seen: Callable[[], int]
) -> tuple[int, int]:
    """Emit all the time, and lead a client to another server at each of its reconnects.

    Returns:
        How many events were emitted, and how often it was cut.
    """
    emitted, at = 0, 0
    stop = asyncio.Event()

    async def emit() -> None:
        nonlocal emitted
        while not stop.is_set():
            emitted += 1
            await three.emit(rng.randrange(SERVERS), emitted)
            await asyncio.sleep(rng.random() / 100)

    emitting = asyncio.ensure_future(emit())
    for hop in range(1, HOPS + 1):
        before = seen()
        await until(lambda before=before: seen() > before, "an event")  # type: ignore[misc]
        at = (at + rng.randrange(1, SERVERS)) % SERVERS
        three.lead_to(at)
        three.line.cut()
        await until(lambda hop=hop: is_back(hop + 1), f"reconnect {hop}")  # type: ignore[misc]
    stop.set()
    await emitting
    return emitted, HOPS


@pytest.mark.node
async def test_an_official_client_that_hops_and_one_that_stays(three: Site, peer: Peer, rng: random.Random) -> None:
    client = await peer.client(
        three.line.url, transports=MODES["websocket"], reconnectionDelay=20, reconnectionDelayMax=40
    )
    stays = await peer.client(f"http://127.0.0.1:{three.ports[1]}", transports=MODES["websocket"])
    await client.connected()
    await stays.connected()
    emitted, hops = await hopping(
        three, rng, lambda times: len(client.connects) >= times, lambda: len(client.received["news"])
    )
    expected = [(number,) for number in range(1, emitted + 1)]
    assert await client.gets("news", emitted) == expected
    assert await stays.gets("news", emitted) == expected
    assert [state.recovered for state in client.connects] == [False] + hops * [True]
    assert [one.offset for one in client.received["news"]] == [one.offset for one in stays.received["news"]]
    assert await client.call("count", 1) == [[0]]
    three.lead_to(0)
    three.line.cut()
    await client.connected(hops + 2)
    assert await client.call("count", 2) == [[1]]


async def test_waypost_s_client_that_hops(three: Site, rng: random.Random) -> None:
    async with waypost.Client(
        three.line.url, transports=("websocket",), reconnection_delay_s=0.02, reconnection_delay_max_s=0.04
    ) as client:
        news: list[int] = []
        connects: list[bool] = []
        client.on("news", news.append)
        client.on("connect", lambda: connects.append(client.recovered))
        emitted, hops = await hopping(three, rng, lambda times: len(connects) >= times - 1, lambda: len(news))
        await until(lambda: len(news) >= emitted, "all events")
        assert news == list(range(1, emitted + 1))
        assert connects == hops * [True]
