"""Messages at certain times of day: one for each time, whoever runs, restarts, or sets the clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.server.model_client import hub_of, running
from tests.support.waiting import until_async
from waypost.server.basics.environment import Environment
from waypost.server.queues import schedules

DAILY = "0 7 * * *"


class WallClock:
    """Wall time that goes on with the loop's, and that a test sets."""

    def __init__(self, text: str) -> None:
        self._ahead = 0.0
        self.set(text)

    def set(self, text: str) -> None:
        self._ahead = datetime.fromisoformat(text).timestamp() - asyncio.get_running_loop().time()

    def __call__(self) -> float:
        return asyncio.get_running_loop().time() + self._ahead


@pytest.fixture(autouse=True)
def _short_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let schedules look at the clock often: tests set it."""
    monkeypatch.setattr(schedules, "LONGEST_SLEEP_S", 0.01)


@asynccontextmanager
async def serving(
    store: Path | str, clock: WallClock, cron: str = DAILY, **schedule: Any
) -> AsyncIterator[waypost.Server]:
    wall_time = clock if store == "memory:" else _of_threads(clock)
    io = waypost.Server(store=store, drain_s=0, environment=Environment(wall_time=wall_time))
    io.schedule("report", cron, "reports", "make", "daily", 7, **schedule)
    async with running(io):
        yield io


def _of_threads(clock: WallClock) -> Any:
    """The store asks for the time in threads of its own, which have no loop."""
    loop = asyncio.get_running_loop()
    return lambda: loop.time() + clock._ahead


async def ids(io: waypost.Server) -> list[str]:
    return [one.id for one in await io.queue("reports").peek()]


async def has(io: waypost.Server, *expected: str) -> None:
    """Wait until the queue has these messages, and see that no others come."""
    await until_async(lambda: ids(io), lambda found: found == [*expected], f"{expected}")
    await asyncio.sleep(0.05)
    assert await ids(io) == [*expected]


async def begun(io: waypost.Server) -> None:
    """Wait until the store knows the schedule."""
    store = hub_of(io).services.store
    await until_async(lambda: store.schedule_noted("report"), lambda found: found is not None, "it has begun")


async def noted(io: waypost.Server, text: str) -> None:
    """Wait until a time was noted."""
    at = datetime.fromisoformat(text).timestamp()
    store = hub_of(io).services.store
    await until_async(lambda: store.schedule_noted("report"), lambda found: found == at, text)


async def test_each_time_gives_one_message() -> None:
    clock = WallClock("2026-11-29T06:30:00+00:00")
    async with serving("memory:", clock, key="k", ttl_s=600) as io:
        await begun(io)
        assert await ids(io) == []
        clock.set("2026-11-29T06:59:59.95+00:00")
        await has(io, "report@2026-11-29T07:00Z")
        [message] = await io.queue("reports").peek()
        assert (message.event, [*message.args], message.key) == ("make", ["daily", 7], "k")
        assert message.expires_at is not None
        assert (message.expires_at - message.enqueued_at).total_seconds() == pytest.approx(600)
        clock.set("2026-11-30T06:59:59.95+00:00")
        await until_async(
            lambda: ids(io), lambda found: "report@2026-11-30T07:00Z" in found, "the message of the next day"
        )


async def test_a_worker_gets_it_at_once() -> None:
    clock = WallClock("2026-11-29T06:30:00+00:00")
    got: asyncio.Queue[str] = asyncio.Queue()
    async with serving("memory:", clock) as io:

        @io.consumer("reports")
        async def make(message: waypost.Message, which: str, hour: int) -> None:
            await got.put(message.id)

        await begun(io)
        clock.set("2026-11-29T07:00:01+00:00")
        assert await asyncio.wait_for(got.get(), 30) == "report@2026-11-29T07:00Z"


async def test_times_are_those_of_the_time_zone() -> None:
    clock = WallClock("2026-11-29T05:30:00+00:00")
    async with serving("memory:", clock, timezone="Europe/Berlin") as io:
        await begun(io)
        clock.set("2026-11-29T06:00:01+00:00")
        await has(io, "report@2026-11-29T06:00Z")


async def test_what_passed_before_the_first_start_does_not_count() -> None:
    clock = WallClock("2026-11-29T07:00:30+00:00")
    async with serving("memory:", clock, missed="once") as io:
        await has(io)


async def test_a_step_of_the_clock_repeats_nothing_and_stops_nothing() -> None:
    clock = WallClock("2026-11-29T06:30:00+00:00")
    async with serving("memory:", clock, "* * * * *") as io:
        await begun(io)
        clock.set("2026-11-29T07:00:01+00:00")
        await has(io, "report@2026-11-29T07:00Z")
        clock.set("2026-12-30T06:59:30+00:00")
        await noted(io, "2026-12-30T06:59:00+00:00")
        clock.set("2026-11-29T07:00:30+00:00")
        await noted(io, "2026-11-29T07:00:00+00:00")
        clock.set("2026-11-29T07:00:59.95+00:00")
        await until_async(lambda: ids(io), lambda found: "report@2026-11-29T07:01Z" in found, "the next minute's")
        found = await ids(io)
        assert len(found) == len({*found})


@pytest.mark.parametrize(
    ("missed", "back_at", "expected"),
    [
        ("skip", "2026-11-29T07:00:40+00:00", ["report@2026-11-29T07:00Z"]),  # not missed yet
        ("skip", "2026-11-29T07:10:00+00:00", []),
        ("once", "2026-11-29T07:10:00+00:00", ["report@2026-11-29T07:00Z"]),
        ("once", "2026-12-04T09:00:00+00:00", ["report@2026-12-04T07:00Z"]),  # once, however many
    ],
)
async def test_times_at_which_no_server_ran(tmp_path: Path, missed: str, back_at: str, expected: list[str]) -> None:
    store, clock = tmp_path / "store.db", WallClock("2026-11-29T06:30:00+00:00")
    async with serving(store, clock, missed=missed) as io:
        await begun(io)
    clock.set(back_at)
    async with serving(store, clock, missed=missed) as io:
        await has(io, *expected)
    async with serving(store, clock, missed=missed) as io:
        await has(io, *expected)


async def test_a_server_that_was_killed_before_it_noted_the_time_gives_no_second_message(tmp_path: Path) -> None:
    store, clock = tmp_path / "store.db", WallClock("2026-11-29T06:30:00+00:00")
    async with serving(store, clock) as io:
        await begun(io)
        clock.set("2026-11-29T07:00:01+00:00")
        await has(io, "report@2026-11-29T07:00Z")
        await noted(io, "2026-11-29T07:00:00+00:00")
        await hub_of(io).services.store.note_schedule("report", datetime(2026, 11, 28).timestamp())
    for back_at in ("2026-11-29T07:00:20+00:00", "2026-11-30T06:59:00+00:00"):
        clock.set(back_at)
        async with serving(store, clock, missed="once") as io:
            await has(io, "report@2026-11-29T07:00Z")
            await noted(io, "2026-11-29T07:00:00+00:00")
            await hub_of(io).services.store.note_schedule("report", datetime(2026, 11, 28).timestamp())


async def test_a_full_queue_gets_it_when_there_is_room() -> None:
    clock = WallClock("2026-11-29T06:30:00+00:00")
    async with serving("memory:", clock) as io:
        await io.queue("reports").configure(max_messages=1)
        await io.queue("reports").emit("other", id="other")
        await begun(io)
        clock.set("2026-11-29T07:00:01+00:00")
        await asyncio.sleep(0.2)
        assert await ids(io) == ["other"]
        await io.queue("reports").purge()
        await has(io, "report@2026-11-29T07:00Z")


async def test_a_schedule_may_be_added_while_the_server_runs() -> None:
    clock = WallClock("2026-11-29T06:30:00+00:00")
    async with serving("memory:", clock) as io:
        await begun(io)
        io.schedule("second", DAILY, "reports", "make")
        store = hub_of(io).services.store
        await until_async(lambda: store.schedule_noted("second"), lambda found: found is not None, "it has begun")
        clock.set("2026-11-29T07:00:01+00:00")
        await until_async(lambda: ids(io), lambda found: "second@2026-11-29T07:00Z" in found, "that of the second")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"cron": "every day"}, "cron"),
        ({"timezone": "Europe/Berlim"}, "did you mean Europe/Berlin"),
        ({"missed": "twice"}, "missed"),
        ({"ttl_s": 0}, "ttl_s"),
        ({"key": 1.5}, "key"),
        ({"name": ""}, "name"),
        ({"queue": ""}, "queue"),
    ],
)
def test_arguments_are_checked_at_the_call(wrong: dict[str, Any], named: str) -> None:
    io = waypost.Server()
    arguments: dict[str, Any] = {"name": "report", "cron": DAILY, "queue": "reports", "event": "make", **wrong}
    with pytest.raises(waypost.ConfigurationError, match=named):
        io.schedule(**arguments)


def test_a_name_is_taken_once_and_a_message_must_be_encodable() -> None:
    io = waypost.Server()
    with pytest.raises(waypost.EncodingFailed):
        io.schedule("report", DAILY, "reports", "make", object())
    io.schedule("report", DAILY, "reports", "make")
    with pytest.raises(waypost.ConfigurationError, match="report"):
        io.schedule("report", DAILY, "other", "make")


async def test_a_stopped_server_looks_at_no_clock_any_more() -> None:
    clock = WallClock("2026-11-29T06:30:00+00:00")
    async with serving("memory:", clock) as io:
        await begun(io)
        work = hub_of(io).schedules._running[0]._work
        assert work is not None
        assert not work.is_stopped
    assert work.is_stopped
