"""What is measured of a service of several nodes: delay from node to node, awaited emits, and what a kill costs."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from bench.cluster.clients import Clients, clients_of
from bench.cluster.contenders import Contender, Service, started
from bench.speed.process import cpu_s

__all__ = ["IN_FLIGHT", "Extent", "Found", "bare_sql", "measure"]

IN_FLIGHT = (1, 16, 128, 1024)
_SIZE_BYTES = 200
_RECEIVERS = 6
_TIMEOUT_S = 120.0
_SETTLE_S = 40.0


@dataclass(frozen=True)
class Extent:
    """How much is measured.

    Attributes:
        nodes: How many nodes.
        seconds: For how long each figure is measured.
        per_s: How many events a second go from node to node.
        kills: How often a node is killed.
    """

    nodes: int
    seconds: float
    per_s: int
    kills: int


@dataclass
class Found:
    """What was measured of one contender.

    Attributes:
        p50_ms: From the emit on one node to the client on another, median.
        p99_ms: Likewise, of 99 in 100.
        cpu_us: CPU time of all nodes for each of these events, in µs.
        emits_per_s: Awaited emits a second, by how many are in flight; empty if emits can't be awaited.
        missing: Events that a client never got over the kills, all clients together.
        doubled: Events that a client got again.
        fell: How often a client got a later event before an earlier one.
        expected: How many should have come.
        recovered: How many connections of the clients went on where they had ended.
        reconnections: How often clients connected again.
    """

    p50_ms: float = 0.0
    p99_ms: float = 0.0
    cpu_us: float = 0.0
    emits_per_s: dict[int, float] = field(default_factory=dict)
    missing: int = 0
    doubled: int = 0
    fell: int = 0
    expected: int = 0
    recovered: int = 0
    reconnections: int = 0


async def measure(contender: Contender, extent: Extent) -> Found:
    """Measure a contender, with an engine and nodes of its own."""
    found = Found()
    with started(contender, extent.nodes) as service:
        for node in range(extent.nodes):
            await service.start(node)
        await _delays(service, extent, found)
        if contender.awaits:
            await _floods(service, extent, found)
        if extent.kills:
            await _kills(service, extent, found)
    return found


async def _delays(service: Service, extent: Extent, found: Found) -> None:
    # With one node alone, both are at it.
    elsewhere = service.urls[1:2] or service.urls[:1]
    async with clients_of(1, service.urls[:1]) as emitter, clients_of(1, elsewhere) as receiver:
        await _run(emitter, receiver, 0, extent.per_s, extent.per_s)  # warm
        await receiver.tell("begin")
        count = int(extent.seconds * extent.per_s)
        before = sum(map(cpu_s, service.pids()))
        [report] = await _run(emitter, receiver, extent.per_s, count, extent.per_s)
        found.cpu_us = 1e6 * (sum(map(cpu_s, service.pids())) - before) / count
        delays = report["delays"]
        found.p50_ms = statistics.median(delays)
        found.p99_ms = statistics.quantiles(delays, n=100)[98]


async def _run(emitter: Clients, receiver: Clients, first: int, count: int, per_s: int) -> Any:
    task = {"first": first, "count": count, "per_s": per_s, "size": _SIZE_BYTES}
    await emitter.call("run", task, timeout_s=_TIMEOUT_S)
    return await receiver.tell("report", count=count, seconds=_SETTLE_S)


async def _floods(service: Service, extent: Extent, found: Found) -> None:
    async with clients_of(1, service.urls[:1]) as emitter:
        for in_flight in IN_FLIGHT:
            task = {"in_flight": in_flight, "seconds": extent.seconds, "size": _SIZE_BYTES}
            answer = await emitter.call("flood", task, timeout_s=_TIMEOUT_S)
            found.emits_per_s[in_flight] = answer["emits"] / answer["seconds"]


async def _kills(service: Service, extent: Extent, found: Found) -> None:
    """Emit on the first node, whose clients stay, while the others are killed and started again in turn."""
    seconds = 4.0 * extent.kills
    count = int(seconds * extent.per_s)
    async with clients_of(1, service.urls[:1]) as emitter, clients_of(_RECEIVERS, service.urls[1:]) as receivers:
        await receivers.tell("begin")
        task = {"first": 0, "count": count, "per_s": extent.per_s, "size": _SIZE_BYTES}
        emitting = asyncio.create_task(emitter.call("run", task, timeout_s=_TIMEOUT_S))
        try:
            for kill in range(extent.kills):
                await asyncio.sleep(1)
                node = 1 + kill % (extent.nodes - 1)
                service.kill(node)
                await asyncio.sleep(1)
                await service.start(node)
            await emitting
        finally:
            emitting.cancel()
        reports = await receivers.tell("report", count=count, seconds=_SETTLE_S)
    found.expected = count * _RECEIVERS
    found.missing = sum(report["missing"] for report in reports)
    found.doubled = sum(report["doubled"] for report in reports)
    found.fell = sum(report["fell"] for report in reports)
    found.recovered = sum(report["recovered"] for report in reports)
    found.reconnections = sum(report["connections"] - 1 for report in reports)


async def bare_sql(url: str, in_flight: Sequence[int], seconds: float) -> dict[int, float]:
    """Measure awaited inserts a second without Waypost, as few calls as may be: the ceiling of the same machine.

    What is asked for while a call runs goes with the next one, a single statement with all records of it.
    """
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("CREATE TABLE bare (id bigserial PRIMARY KEY, record bytea NOT NULL)")
        return {number: await _bare(connection, number, seconds) for number in in_flight}
    finally:
        await connection.close()


async def _bare(connection: Any, in_flight: int, seconds: float) -> float:
    insert = await connection.prepare("INSERT INTO bare (record) SELECT unnest($1::bytea[])")
    record = b"x" * _SIZE_BYTES
    waiting: list[asyncio.Future[None]] = []
    loop = asyncio.get_running_loop()
    wake = asyncio.Event()

    async def write() -> None:
        while True:
            await wake.wait()
            wake.clear()
            batch, waiting[:] = waiting[:], []
            await insert.fetch([record] * len(batch))
            for future in batch:
                future.set_result(None)

    end = time.monotonic() + seconds

    async def emit() -> int:
        written = 0
        while time.monotonic() < end:
            future = loop.create_future()
            waiting.append(future)
            wake.set()
            await future
            written += 1
        return written

    writer = asyncio.create_task(write())
    try:
        return sum(await asyncio.gather(*(emit() for _ in range(in_flight)))) / seconds
    finally:
        writer.cancel()
        with suppress(asyncio.CancelledError):
            await writer
