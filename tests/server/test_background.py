"""Background tasks that start and end with the server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import waypost
from tests.server.model_client import ModelClient, running, until


async def test_a_task_starts_and_ends_with_each_life_of_the_server() -> None:
    io = waypost.Server(drain_s=0.0)
    story: list[Any] = []

    @io.task
    async def tick() -> None:
        story.append("began")
        try:
            while True:
                await io.emit("tick")
                await asyncio.sleep(0.001)
        finally:
            await io.queue("log").emit("the store is still there")
            story.append("ended")

    assert story == []
    for number in (1, 2):
        async with running(io):
            client = ModelClient(io)
            await client.connect()
            events = client.events
            await until(lambda: len(events) > 3)  # noqa: B023  # used before the next turn
            assert story == ["began", "ended"] * (number - 1) + ["began"]
        assert story == ["began", "ended"] * number


async def test_a_task_that_fails_is_logged_and_leaves_the_server_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    io = waypost.Server(drain_s=0.0)
    failures: list[waypost.HandlerFailure] = []
    io.hooks.error(failures.append)

    @io.task
    async def fail() -> None:
        raise SystemExit("no")

    async with running(io):
        await until(lambda: bool(failures))
        await ModelClient(io).connect()
    (record,) = caplog.records
    assert "task test_a_task_that_fails" in record.getMessage()
    assert record.exc_info is not None


async def test_a_task_of_a_server_that_runs_starts_at_once() -> None:
    io = waypost.Server(drain_s=0.0)
    began = asyncio.Event()
    async with running(io):

        @io.task
        async def late() -> None:
            began.set()

        await asyncio.wait_for(began.wait(), 30)


async def test_a_task_may_close_the_server() -> None:
    io = waypost.Server(drain_s=0.0)

    @io.task
    async def leave() -> None:
        await io.close()

    await io.start()
    await until(lambda: io._hub._stop is not None and io._hub._stop.done())


def test_what_is_no_task_is_refused() -> None:
    io = waypost.Server()

    async def once() -> None: ...

    io.task(once)
    for wrong in (once, lambda: None, print, 3):
        with pytest.raises(waypost.ConfigurationError, match="task="):
            io.task(wrong)  # type: ignore[type-var]

    async def takes(socket: Any) -> None: ...

    with pytest.raises(waypost.ConfigurationError, match="without arguments"):
        io.task(takes)  # type: ignore[type-var]
