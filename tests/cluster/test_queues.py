"""Queues with real clients over real ports, sockets on several servers; and schedules and the command beside."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.cluster.nodes import Cluster, cluster
from tests.interop.peer import MODES, Peer
from tests.server.model_client import hub_of
from tests.support.chosen_store import is_postgresql
from tests.support.link import Link
from tests.support.waiting import until, until_async
from waypost.cli import main
from waypost.server.basics.environment import Environment
from waypost.server.queues import schedules
from waypost.server.queues.options import Order
from waypost.transports.uvicorn_runner import bind, running

SERVERS = 3
JOBS = 150
ORDERS: dict[str, Order] = {"strict": "strict", "key": "key", "none": "none"}


def make(_: int) -> waypost.Server:
    """Make a server whose clients consume the queue that their query names, in the order that it names."""
    io = waypost.Server(drain_s=0.2, ping_interval_s=1, ping_timeout_s=2)

    @io.on("connect")
    async def connect(socket: waypost.Socket) -> None:
        query = socket.handshake.query
        await socket.consume(query["queue"], order=ORDERS[query["order"]], prefetch=4)

    return io


@asynccontextmanager
async def site() -> AsyncIterator[tuple[Cluster, list[int]]]:
    async with AsyncExitStack() as stack:
        nodes = await stack.enter_async_context(cluster(SERVERS, make, runs=False))
        ports: list[int] = []
        for io in nodes.servers:
            url = await stack.enter_async_context(running(io, io, bind("127.0.0.1", 0)))
            ports.append(int(url.rpartition(":")[2]))
        yield nodes, ports


@pytest.mark.node
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("order", ["strict", *(pytest.param(one, marks=pytest.mark.long) for one in ("key", "none"))])
async def test_official_clients_and_waypost_s_share_a_queue_over_servers(
    peer: Peer, rng: random.Random, order: str
) -> None:
    async with site() as (nodes, ports), Link.to(ports[1]) as line:
        query = f"?queue=jobs&order={order}"
        stays = await peer.client(
            f"http://127.0.0.1:{ports[0]}", transports=MODES["websocket"], rules={"job": "ack"},
            query={"queue": "jobs", "order": order},
        )  # fmt: skip
        hops = await peer.client(
            line.url, transports=MODES["websocket"], rules={"job": "ack"}, reconnectionDelay=20,
            reconnectionDelayMax=40, query={"queue": "jobs", "order": order},
        )  # fmt: skip
        await stays.connected()
        await hops.connected()
        mine: list[int] = []
        async with waypost.Client(f"http://127.0.0.1:{ports[2]}{query}", transports=("websocket",)) as client:
            client.on("job", mine.append)
            for job in range(JOBS):
                await nodes.servers[rng.randrange(SERVERS)].queue("jobs").emit("job", job, key=str(job % 7))
                if job % 30 == 29:
                    line.port = ports[rng.randrange(SERVERS)]
                    times = len(hops.connects)
                    line.cut()
                    await hops.connected(times + 1)
            consumer = nodes.servers[0].queue("jobs").get_consumer()
            await until_async(consumer.info, lambda info: info.acknowledged >= JOBS, "all is acknowledged")
            jobs = [*mine, *(one.args[0] for one in (*stays.received["job"], *hops.received["job"]))]
        assert set(jobs) == set(range(JOBS))
        assert (await consumer.info()).acknowledged == JOBS
        # Only what was on its way to the client that was cut can have come twice.
        assert len(jobs) <= JOBS + 4 * 5
        await peer.leave_all()


@pytest.mark.node
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("how", ["dies", "stops"])
async def test_an_official_client_goes_on_when_the_owner_is_gone(peer: Peer, how: str) -> None:
    async with site() as (nodes, ports):
        idle = waypost.Client(f"http://127.0.0.1:{ports[0]}?queue=jobs&order=strict", transports=("websocket",))
        async with idle:
            client = await peer.client(
                f"http://127.0.0.1:{ports[1]}", transports=MODES["websocket"],
                rules={"job": "hold"}, query={"queue": "jobs", "order": "strict"},
            )  # fmt: skip
            await client.connected()
            for job in range(3):
                await nodes.servers[1].queue("jobs").emit("job", job)
            await client.gets("job", 1)
            assert hub_of(nodes.servers[0]).deliveries.runner("jobs", "default") is not None
            if how == "dies":
                nodes.kill(0)
            else:
                await nodes.servers[0].close()
        deliveries = hub_of(nodes.servers[1]).deliveries
        await until(lambda: deliveries.runner("jobs", "default") is not None, "the next owner")
        for count in (1, 2, 3):
            assert await client.gets("job", count) == [(job,) for job in range(count)]
            await client.ack(client.received["job"][-1])
        consumer = nodes.servers[2].queue("jobs").get_consumer()
        await until_async(consumer.info, lambda info: info.acknowledged == 3, "all is acknowledged")
        await peer.leave_all()


# -- beside -------------------------------------------------------------------------------------------------------


async def test_a_schedule_on_every_server_gives_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "LONGEST_SLEEP_S", 0.01)
    now = datetime.fromisoformat("2026-03-10T06:59:59Z").timestamp()

    def with_schedule(_: int) -> waypost.Server:
        io = waypost.Server(drain_s=0, environment=Environment(wall_time=lambda: now))
        io.schedule("report", "0 7 * * *", "reports", "make")
        return io

    async with cluster(SERVERS, with_schedule) as nodes:
        for day in range(1, 4):
            now = datetime.fromisoformat(f"2026-03-{9 + day}T07:00:01Z").timestamp()
            for io in nodes.servers:
                store = hub_of(io).services.store
                await until_async(
                    lambda store=store: store.schedule_noted("report"),  # type: ignore[misc]
                    lambda noted: noted == now - 1,  # noqa: B023 - awaited here
                    "every server has looked at the clock",
                )
            await asyncio.sleep(0.05)
            messages = await nodes.servers[0].queue("reports").peek()
            assert [one.id for one in messages] == [f"report@2026-03-{10 + past}T07:00Z" for past in range(day)]


@pytest.mark.skipif(is_postgresql(), reason="the command is given the file of a host's store")
async def test_the_command_beside_several_servers_reaches_the_owner(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    done: list[Any] = []

    def with_function(number: int) -> waypost.Server:
        io = waypost.Server(drain_s=0, store=path)
        if number == 0:
            io.consumer("jobs")(lambda message, job: done.append(job))
        return io

    async with cluster(2, with_function) as nodes:
        _, other = nodes.servers
        await other.queue("jobs").emit("job", 1)
        await until(lambda: done == [1], "the first job")
        assert await asyncio.to_thread(main, ["queue", "pause", str(path), "jobs"]) == 0
        runner = hub_of(nodes.servers[0]).deliveries.runner("jobs", "default")
        assert runner is not None
        await until(lambda: runner._progress.pause_s() > 0, "the pause at the owner")
        await other.queue("jobs").emit("job", 2)
        await asyncio.sleep(0.2)
        assert done == [1]
        assert await asyncio.to_thread(main, ["queue", "resume", str(path), "jobs"]) == 0
        await until(lambda: done == [1, 2], "the second job")
