"""A process that publishes or consumes through a contender's client: takes a task as JSON, prints the result."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from typing import Any

import uvloop

from bench.queue.brokers import Broker, make

__all__ = ["publish_for"]


async def publish_for(broker: Broker, in_flight: int, seconds: float) -> tuple[int, float, float]:
    """Publish with so many waiting at a time; returns how many were confirmed, in how long, and for how much CPU."""
    end = time.perf_counter() + seconds
    done = 0

    async def work() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await broker.publish(done)
            done += 1

    began, began_cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(work() for _ in range(in_flight)))
    return done, time.perf_counter() - began, time.process_time() - began_cpu


async def publish_all(broker: Broker, messages: int, in_flight: int) -> None:
    """Publish so many messages, for others to consume."""
    numbers = iter(range(messages))

    async def work() -> None:
        for number in numbers:
            await broker.publish(number)

    await asyncio.gather(*(work() for _ in range(in_flight)))


async def consume_all(broker: Broker, consumers: int, messages: int) -> float:
    """Consume and acknowledge so many messages that wait; returns the seconds, without the set-up."""
    finished = asyncio.Event()
    left = messages

    def taken() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            finished.set()

    await broker.prepare(consumers)
    began = time.perf_counter()
    await broker.consume(taken)
    await finished.wait()
    return time.perf_counter() - began


async def main(task: dict[str, Any]) -> dict[str, Any]:
    """Do a task, ``publish`` or ``consume``, and return what was measured."""
    broker = make(task["contender"], task["address"])
    if task["do"] == "publish":
        await broker.open(task["in_flight"])
        # So that every connection is there and warm.
        await publish_all(broker, 4 * task["in_flight"], task["in_flight"])
        count, seconds, cpu_s = await publish_for(broker, task["in_flight"], task["seconds"])
        measured = {"per_s": count / seconds, "cpu_us": cpu_s / count * 1e6}
    else:
        await broker.open(256)
        await publish_all(broker, task["messages"], 256)
        seconds = await consume_all(broker, task["consumers"], task["messages"])
        measured = {"per_s": task["messages"] / seconds}
    await broker.close()
    return measured


if __name__ == "__main__":
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    given = json.loads(sys.argv[1])
    os.sched_setaffinity(0, given["cores"])
    print(json.dumps(uvloop.run(main(given))))
