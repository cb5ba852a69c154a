"""Headers stay with their message: delivered, delayed, dead, redriven, published, and over a restart."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import waypost
from tests.server.model_client import running
from tests.support.waiting import until_async

HEADERS = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tenant": "ä\n"}


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory:" if request.param == "memory" else str(tmp_path / "store.db")


async def test_workers_see_them_at_each_attempt_and_dead_letters_keep_them(store: str) -> None:
    io = waypost.Server(store=store, drain_s=0, queues=waypost.QueueOptions(first_backoff_s=0, max_failures=2))
    seen: list[tuple[int, dict[str, str]]] = []
    is_fixed = False

    @io.consumer("jobs")
    async def work(message: waypost.Message) -> None:
        seen.append((message.attempt, dict(message.headers)))
        if not is_fixed:
            raise waypost.Reject("no")

    async with running(io):
        jobs = io.queue("jobs")
        await jobs.emit("job", 1, headers=HEADERS)
        [letter] = await until_async(jobs.dead_letters, bool, "it is a dead letter")
        assert letter.headers == HEADERS
        is_fixed = True
        await jobs.redrive()
        await until_async(jobs.get_consumer().info, lambda info: not info.waiting, "it is done")
        await jobs.emit("job", 2)
        await until_async(jobs.get_consumer().info, lambda info: not info.waiting, "it is done")
    assert seen == [(1, HEADERS), (2, HEADERS), (1, HEADERS), (1, {})]


async def test_every_way_into_a_queue_keeps_them_also_over_a_restart(store: str) -> None:
    io = waypost.Server(store=store, drain_s=0)
    async with running(io):
        queue = io.queue("jobs")
        await queue.emit("job", 1, headers=HEADERS)
        await queue.emit("job", 2, headers={})
        await queue.emit_many([waypost.NewMessage("job", 3, headers={"a": "1"}), waypost.NewMessage("job", 4)])
        await queue.emit("job", 5, headers={"late": "yes"}, delay_s=0.01)
        expected = [HEADERS, {}, {"a": "1"}, {}, {"late": "yes"}]
        if store != "memory:":
            await until_async(queue.peek, lambda found: len(found) == 5, "all are there")
            with closing(sqlite3.connect(store)) as connection, connection:
                queue.publish(connection, "job", 6, headers={"by": "hand"})
                waypost.publish(connection, "jobs", "job", 7, headers={"by": "another"})
            expected += [{"by": "hand"}, {"by": "another"}]
        found = await until_async(queue.peek, lambda found: len(found) == len(expected), "all are there")
        assert [one.headers for one in found] == expected
    if store != "memory:":
        async with running(waypost.Server(store=store, drain_s=0)) as again:
            assert [one.headers for one in await again.queue("jobs").peek()] == expected


async def test_they_count_for_the_queues_bytes(store: str) -> None:
    async with running(waypost.Server(store=store, drain_s=0)) as io:
        await io.queue("jobs").emit("job")
        before = (await io.queue("jobs").info()).bytes
        await io.queue("jobs").emit("job", headers={"name": "x" * 100})
        assert (await io.queue("jobs").info()).bytes - 2 * before > 100


async def test_a_schedules_message_has_them() -> None:
    io = waypost.Server(drain_s=0)
    io.schedule("often", "* * * * *", "jobs", "job", headers={"a": "1"})
    [schedule] = io._hub.schedules._running
    assert schedule._row.headers == '{"a":"1"}'


async def test_wrong_ones_add_nothing() -> None:
    async with running(waypost.Server(drain_s=0)) as io:
        for wrong in ({"a": 1}, "a"):
            with pytest.raises(waypost.ConfigurationError, match="headers"):
                await io.queue("jobs").emit("job", headers=wrong)  # type: ignore[arg-type]
        await asyncio.sleep(0)
        assert (await io.queue("jobs").info()).messages == 0
