"""A wall clock that is set while a server runs ends and delays nothing; what has a time of day follows it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import waypost
from tests.server.model_client import hub_of, running, until
from tests.server.queues.client import QUEUE, Clock, Site, quiet
from tests.support.waiting import until_async
from waypost.server.basics.environment import Environment

_HOUR_S = 3600.0
_DAY_S = 24 * _HOUR_S


class Clocks:
    """The machine's two clocks."""

    def __init__(self) -> None:
        self.wall, self.steady = Clock(), Clock()

    def pass_by(self, seconds: float) -> None:
        self.wall.now += seconds
        self.steady.now += seconds


@asynccontextmanager
async def site(clocks: Clocks, store: str, **queues: float) -> AsyncIterator[Site]:
    environment = Environment(wall_time=clocks.wall, steady_time=clocks.steady)
    options = waypost.QueueOptions(first_backoff_s=60.0, backoff_jitter=0.0, **queues)  # type: ignore[arg-type]
    io = waypost.Server(store=store, drain_s=0.0, environment=environment, queues=options)
    async with running(io):
        yield Site(io, {"order": "none"})


@pytest.fixture(params=["memory:", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory:" if request.param == "memory:" else str(tmp_path / "store.db")


async def look(here: Site) -> None:
    """Do what the server does every 10 s, and what its timers do that sleep no longer than 30 s."""
    await hub_of(here.io).keep_up()
    hub_of(here.io).deliveries.due.look()
    for runner in hub_of(here.io).deliveries.serving(QUEUE):
        runner.wake()
    await quiet()


async def test_messages_and_consumers_outlive_a_clock_that_is_a_month_ahead_for_a_while(store: str) -> None:
    clocks = Clocks()
    async with site(clocks, store) as here:
        await here.queue.get_consumer("idle").create()
        await here.put(*range(100), ttl_s=_HOUR_S)
        clocks.wall.now += 31 * _DAY_S
        await look(here)
        clocks.wall.now -= 31 * _DAY_S
        await look(here)
        assert (await here.queue.info()).messages == 100
        assert [one.name for one in await here.queue.consumers()] == ["idle"]
        clocks.pass_by(_HOUR_S)
        await look(here)
        assert (await here.queue.info()).messages == 0


@pytest.mark.parametrize("step_s", [-_HOUR_S, _HOUR_S])
async def test_a_retry_comes_after_its_pause_whatever_the_wall_clock_does(store: str, step_s: float) -> None:
    clocks = Clocks()
    async with site(clocks, store) as here:
        client = await here.client()
        await here.put("job")
        await client.gets(1)
        client.reply("job", '[{"nack": "no"}]')
        await here.info()
        clocks.wall.now += step_s
        await look(here)
        await client.gets(1)
        clocks.pass_by(60)
        await look(here)
        await client.gets(2)


@pytest.mark.parametrize("step_s", [-_HOUR_S / 2, _HOUR_S / 2])
async def test_a_delay_lasts_as_long_as_was_asked_for(store: str, step_s: float) -> None:
    clocks = Clocks()
    async with site(clocks, store) as here:
        client = await here.client()
        client.auto_ack = True
        await here.put("before", delay_s=60)
        clocks.wall.now += step_s
        await here.put("after", delay_s=60)
        await look(here)
        assert client.jobs == []
        clocks.pass_by(60)
        await look(here)
        await until(lambda: sorted(client.jobs) == ["after", "before"])


async def test_a_lease_lasts_as_long_as_was_asked_for(store: str) -> None:
    clocks = Clocks()
    async with site(clocks, store, lease_s=30.0) as here:
        client = await here.client()
        await here.put("job")
        await client.gets(1)
        (runner,) = hub_of(here.io).deliveries.serving(QUEUE)
        clocks.wall.now += _HOUR_S
        runner._flight._leases._look()
        assert runner.in_flight == 1
        clocks.pass_by(30)
        runner._flight._leases._look()
        assert runner.in_flight == 0


async def test_a_repeated_id_is_recognised_over_a_step(store: str) -> None:
    clocks = Clocks()
    async with site(clocks, store) as here:
        first = await here.queue.emit("job", id="one")
        clocks.wall.now += _DAY_S
        assert (await here.queue.emit("job", id="one")) == first._replace(duplicate=True)
        clocks.pass_by(600)
        assert not (await here.queue.emit("job", id="one")).duplicate


async def test_a_session_lives_as_long_as_was_asked_for(store: str) -> None:
    clocks = Clocks()
    environment = Environment(wall_time=clocks.wall, steady_time=clocks.steady)
    io = waypost.Server(store=store, environment=environment, recovery=waypost.Recovery(session_ttl_s=60))
    async with running(io):
        here = Site(io, {})
        client = await here.client()
        await client.cut()
        await quiet()
        await asyncio.sleep(0.05)
        clocks.wall.now += _DAY_S
        await look(here)
        assert io.state().counters.expired_sessions == 0
        clocks.pass_by(61)
        await look(here)
        assert io.state().counters.expired_sessions == 1


async def test_a_pause_ends_by_the_wall_clock(store: str) -> None:
    clocks = Clocks()
    async with site(clocks, store) as here:
        client = await here.client()
        await here.queue.pause(until=datetime.fromtimestamp(clocks.wall.now + _HOUR_S, UTC))
        await here.put("job")
        clocks.steady.now += 2 * _HOUR_S
        await look(here)
        assert client.jobs == []
        clocks.wall.now += _HOUR_S
        await look(here)
        await client.gets(1)


async def test_times_are_shown_and_taken_by_the_wall_clock_as_it_is_now(store: str) -> None:
    clocks = Clocks()
    async with site(clocks, store, max_failures=1) as here:
        await here.put("old")
        clocks.pass_by(_HOUR_S)
        await here.put("new")
        clocks.wall.now -= 10 * _HOUR_S
        await look(here)
        now = datetime.fromtimestamp(clocks.wall.now, UTC)
        ages = [now - one.enqueued_at for one in await here.queue.peek()]
        assert ages == [timedelta(hours=1), timedelta()]
        oldest_at = (await here.queue.info()).oldest_at
        assert oldest_at is not None
        assert now - oldest_at == timedelta(hours=1)
        await here.queue.get_consumer().create(start=now - timedelta(minutes=30))
        client = await here.client()
        assert await client.gets(1) == ["new"]
        client.reply("new", '[{"nack": "no"}]')
        await until_async(here.queue.dead_letters, bool, "the dead letter is stored")
        matching = waypost.DeadLetterFilter(died_after=(now - timedelta(minutes=1)).timestamp())
        (letter,) = await here.queue.dead_letters(matching)
        assert abs((letter.died_at - now).total_seconds()) < 1
        assert (await here.queue.get_consumer().info()).active_at == now
