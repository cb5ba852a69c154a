"""Workers that are official JavaScript clients: what they have in hand over a cut, and beyond its lease."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

import waypost
from tests.interop.js_worker import JsWorker
from tests.support.link import Link
from tests.support.waiting import until, until_async
from waypost.testing import serve

pytestmark = pytest.mark.long


@asynccontextmanager
async def queue_of_jobs(
    consuming: dict[str, Any], server: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[tuple[waypost.Server, Link]]:
    """Serve a queue named ``jobs``, and a link by which workers come to it."""
    io = waypost.Server(drain_s=0.0, queues=waypost.QueueOptions(**options), **(server or {}))

    @io.on("connect")
    async def connect(socket: waypost.Socket) -> None:
        await socket.consume("jobs", **consuming)

    async with serve(io) as site, Link.to(int(site.url.rpartition(":")[2])) as link:
        yield io, link


async def put(io: waypost.Server, jobs: list[dict[str, Any]]) -> None:
    await io.queue("jobs").get_consumer().create()
    await io.queue("jobs").emit_many([waypost.NewMessage("job", {"number": n, **job}) for n, job in enumerate(jobs)])


async def until_done(io: waypost.Server, jobs: int) -> waypost.ConsumerInfo:
    def is_done(info: waypost.ConsumerInfo) -> bool:
        return info.acknowledged >= jobs and not info.waiting

    info = io.queue("jobs").get_consumer().info
    return await until_async(info, is_done, f"{jobs} jobs are acknowledged", 60)


async def test_a_cut_of_a_fifth_of_a_second_lets_no_job_run_twice() -> None:
    async with queue_of_jobs({"order": "none", "prefetch": 32}) as (io, link), JsWorker.start(link.url) as worker:
        await put(io, [{"work_ms": 1500 + 10 * n} for n in range(64)])
        await worker.says("started", 32)
        await arrived(io)
        link.freeze()
        await asyncio.sleep(0.2)
        link.cut()
        await worker.says("connected", 2)
        info = await until_done(io, 64)
        assert worker.said[-1]["what"] == "acknowledged"
        assert [one["recovered"] for one in worker.said if one["what"] == "connected"] == [False, True]
        assert worker.runs() == Counter(range(64))
        assert (info.acknowledged, info.redelivered, info.dead_letters) == (64, 0, 0)


async def arrived(io: waypost.Server) -> None:
    """Wait until the server knows that what it has sent so far has arrived."""
    (member,) = io._hub.directory.core("/").index
    await until(lambda: not member.out.acks.awaits_arrival, "the client answers a heartbeat")


@pytest.mark.parametrize("binary", [False, True])
async def test_a_job_that_blocks_for_longer_than_the_heartbeats_allow_runs_once(*, binary: bool) -> None:
    heartbeat = {"ping_interval_s": 0.5, "ping_timeout_s": 1}
    async with queue_of_jobs({}, heartbeat) as (io, link), JsWorker.start(link.url) as worker:
        await put(io, [{"block_ms": 2500, "binary": binary}, {"work_ms": 1}])
        info = await until_done(io, 2)
        assert worker.count("connected") >= 2, worker.said
        assert worker.runs() == Counter(range(2))
        assert (info.acknowledged, info.dead_letters) == (2, 0)


async def test_the_ack_of_a_worker_that_has_not_noticed_its_cut_counts() -> None:
    heartbeat = {"ping_interval_s": 0.5, "ping_timeout_s": 1}
    async with queue_of_jobs({}, heartbeat) as (io, link), JsWorker.start(link.url, acks_at_once=True) as worker:
        await put(io, [{"block_ms": 2500}, {"work_ms": 1}])
        info = await until_done(io, 2)
        assert worker.count("connected") >= 2, worker.said
        assert worker.runs() == Counter(range(2))
        assert (info.acknowledged, info.dead_letters) == (2, 0)


async def test_jobs_longer_than_their_lease_are_done_acknowledged_and_counted_once() -> None:
    heartbeat = {"ping_interval_s": 0.1, "ping_timeout_s": 20}
    async with AsyncExitStack() as stack:
        io, link = await stack.enter_async_context(
            queue_of_jobs({"order": "none"}, heartbeat, lease_s=0.4, max_lease_s=30)
        )
        await put(io, [{"work_ms": 600}] * 40)
        workers = [await stack.enter_async_context(JsWorker.start(link.url, one_at_a_time=True)) for _ in range(4)]
        info = await until_done(io, 40)
        started: Counter[int] = sum((worker.runs() for worker in workers), Counter())
        acknowledged: Counter[int] = sum((worker.runs("acknowledged") for worker in workers), Counter())
        assert started == acknowledged == Counter(range(40))
        assert (info.acknowledged, info.redelivered, info.dead_letters) == (40, 0, 0)


async def test_a_job_longer_than_the_longest_lease_counts_at_its_first_ack() -> None:
    heartbeat = {"ping_interval_s": 0.1, "ping_timeout_s": 20}
    limits = {"lease_s": 0.3, "max_lease_s": 0.3, "first_backoff_s": 0.1, "backoff_jitter": 0}
    async with (
        queue_of_jobs({"order": "none"}, heartbeat, **limits) as (io, link),
        JsWorker.start(link.url) as worker,
    ):
        await put(io, [{"work_ms": 1500}] * 3)
        info = await until_done(io, 3)
        assert (info.acknowledged, info.dead_letters) == (3, 0)
        assert max(worker.runs("acknowledged").values()) <= 2
