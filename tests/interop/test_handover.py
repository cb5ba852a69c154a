"""Official clients, each of whose connections reaches a worker by chance."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import waypost
from tests.interop.peer import MODES, Client, Peer
from tests.support.mesh import Mesh, Worker, serving_workers
from tests.support.nodes import Nodes, join
from tests.support.spread import Spread

pytestmark = [pytest.mark.node, pytest.mark.asyncio]

_LEAST_SHARE = 0.3
"""Of polling clients' requests so many must reach another worker than their session's, or the test tests nothing."""


@asynccontextmanager
async def service(
    count: int, rng: random.Random, mesh: Mesh | None = None
) -> AsyncIterator[tuple[list[Worker], Spread]]:
    """Serve one store by several workers."""
    nodes = Nodes()
    made: list[waypost.Server] = []

    def make() -> waypost.Server:
        io = waypost.Server(drain_s=0.0, allow_eio3=True, ping_interval_s=2, ping_timeout_s=3)
        join(nodes, io, f"n{len(made)}")
        made.append(io)

        @io.event
        async def say(socket: waypost.Socket, *args: Any) -> int:
            await io.emit("said", *args)
            return len(args)

        return io

    async with (
        serving_workers(count, make=make, mesh=mesh) as workers,
        Spread.over([worker.port for worker in workers], rng) as spread,
    ):
        yield workers, spread
    await nodes.host.close()


@pytest.mark.parametrize(
    ("version", "mode"), [*(("4", mode) for mode in MODES), ("3", "polling"), ("2", "polling"), ("2", "upgrade")]
)
async def test_everything_reaches_everybody_in_one_order(version: str, mode: str, rng: random.Random) -> None:
    async with service(2, rng) as (workers, spread), Peer.start() as peer:
        clients = [await peer.client(spread.url, transports=MODES[mode], version=version) for _ in range(4)]
        for client in clients:
            await client.connected()
        for number in range(25):
            await asyncio.gather(*(client.emit("say", index, number) for index, client in enumerate(clients)))
        # Clients of older versions show the offset as one more argument.
        told = [[args[:2] for args in await client.gets("said", 100)] for client in clients]
        assert all(each == told[0] for each in told)
        assert sorted(told[0]) == [(index, number) for index in range(4) for number in range(25)]
        large = "x" * 300_000
        for client in clients:
            assert await client.call("echo", large, b"\x00" * 100_000) == [large, b"\x00" * 100_000]
        passed = [worker.passed for worker in workers]
        requests = sum(worker.server.server_state.total_requests for worker in workers)
        assert all(forwarded == refused == 0 for _, _, forwarded, refused in passed)
        if mode == "polling":
            foreign = sum(one[0] for one in passed)
            assert foreign >= _LEAST_SHARE * requests, (foreign, requests)
        if mode == "upgrade":
            for client in clients:
                await client.upgraded()
        await peer.leave_all()


async def worker_of(client: Client) -> int:
    """Return the number of the worker that has a client's session."""
    engine_id = (await client.state()).engine_id
    assert engine_id is not None
    return int(engine_id.rpartition(".")[2])


async def test_clients_of_a_worker_that_dies_recover_on_another_one(rng: random.Random) -> None:
    mesh = Mesh()
    async with service(3, rng, mesh) as (workers, spread), Peer.start() as peer:
        clients = [await peer.client(spread.url, transports=MODES["polling"]) for _ in range(6)]
        for client in clients:
            await client.connected()
        await clients[0].call("say", 0)
        await asyncio.gather(*(client.gets("said", 1) for client in clients))
        # Chance gives each client a worker; the first one's dies.
        numbers = [await worker_of(client) for client in clients]
        victim = workers[numbers[0] - 1]
        homeless = [client for client, number in zip(clients, numbers, strict=True) if number == numbers[0]]
        spread.ports.remove(victim.port)
        victim.die(mesh)
        for client in homeless:
            assert (await client.connected(2)).recovered
        for number in range(1, 6):
            await clients[-1].call("say", number)
        for client in clients:
            assert await client.gets("said", 6) == [(number,) for number in range(6)]
        await peer.leave_all()
