"""What Prometheus reads of queues: by a real scrape, parsed by Prometheus's own client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.operations.scraping import ask, samples, scrape
from tests.server.model_client import hub_of, running, until
from tests.support.nodes import servers
from tests.support.waiting import until_async
from waypost.operations.metrics import survey
from waypost.server.basics.environment import Environment
from waypost.server.watching.counters import Counters
from waypost.server.watching.queue_labels import QueueLabels
from waypost.storage.base import Store
from waypost.storage.queue_records import QueueRow

OPTIONS: dict[str, Any] = {"drain_s": 0.0, "queues": waypost.QueueOptions(first_backoff_s=0.0)}


@pytest.fixture
async def io() -> AsyncIterator[waypost.Server]:
    server = waypost.Server(**OPTIONS)
    async with running(server):
        yield server


def totals(io: waypost.Server, queue: str) -> waypost.QueueCounters:
    return io.state().counters.queues.get(queue, waypost.QueueCounters())


async def test_a_scrape_tells_what_became_of_messages(io: waypost.Server) -> None:
    release = asyncio.Event()
    tries: list[str] = []

    async def work(message: waypost.Message, how: str) -> None:
        tries.append(how)
        if how == "bad":
            raise waypost.Reject("it can't be done", final=True)
        if tries.count(how) == 1 and how == "again":
            raise ValueError("a fault")
        if how == "slow":
            await release.wait()

    for name in ("jobs:a", "jobs:b"):
        io.consumer(name)(work)
    for queue, how in (("jobs:a", "good"), ("jobs:a", "bad"), ("jobs:a", "again"), ("jobs:b", "slow")):
        await io.queue(queue).emit("job", how, id=f"{queue}-{how}")
    await io.queue("jobs:a").emit("job", "good", id="jobs:a-good")  # a duplicate
    await until(lambda: totals(io, "jobs:*").acknowledged == 2 and len(tries) == 5)
    found = await scrape(io)
    assert found["waypost_queue_enqueued_total", "jobs:*"] == 4
    assert found["waypost_queue_delivered_total", "jobs:*"] == 5
    assert found["waypost_queue_acknowledged_total", "jobs:*"] == 2
    assert found["waypost_queue_redelivered_total", "jobs:*"] == 1
    assert found["waypost_queue_dead_lettered_total", "jobs:*", "rejected"] == 1
    assert found["waypost_queue_wait_seconds_count", "jobs:*"] == 4
    assert found["waypost_queue_process_seconds_count", "jobs:*"] == 2
    assert found["waypost_queue_in_flight", "jobs:*"] == 1
    assert found["waypost_queue_attached", "jobs:*"] == 2
    release.set()
    await until(lambda: totals(io, "jobs:*").acknowledged == 3)
    assert (await scrape(io))["waypost_queue_in_flight", "jobs:*"] == 0


async def test_a_queue_for_each_user_makes_one_series(io: waypost.Server) -> None:
    for user in range(50):
        await io.queue(f"inbox:{user}").emit("news")
    found = await scrape(io)
    assert [name for name in found if name[0] == "waypost_queue_enqueued_total"] == [
        ("waypost_queue_enqueued_total", "inbox:*")
    ]
    assert found["waypost_queue_enqueued_total", "inbox:*"] == 50


@pytest.mark.parametrize(
    ("queue", "label"),
    [
        ("emails", "emails"),
        ("inbox:7", "inbox:*"),
        ("inbox:vip", "inbox:vip"),
        ("inbox:eu:7", "inbox:eu:*"),
        ("inbox:eu:de:7", "inbox:eu:de:*"),
        (":", ":*"),
        ("k" * 101, "other"),
        ("k" * 101 + ":7", "other"),
        ("k" * 100, "k" * 100),
        ("k:" + "7" * 1000, "k:*"),
    ],
)
def test_a_queue_counts_under_the_longest_name_that_fits(queue: str, label: str) -> None:
    labels = QueueLabels({}, ("inbox:vip", "inbox:eu:*", "inbox:eu:de:*"))
    assert labels.label(queue) == label


def test_queues_without_end_become_other() -> None:
    counters = Counters()
    labels = QueueLabels(counters.queues, ())
    for number in range(2_000):
        labels.totals(f"queue-{number}").enqueued += 1
        labels.load(f"queue-{number}").attached += 1
    assert len(counters.queues) == len(labels.loads) == 501
    assert counters.queues["other"].enqueued == labels.loads["other"].attached == 1_500


@pytest.mark.parametrize("names", ["inbox", ["inbox", ""], [7]])
def test_names_that_no_queue_has_are_refused(names: Any) -> None:
    with pytest.raises(waypost.ConfigurationError, match="metrics_queues"):
        waypost.Server(metrics_queues=names)


async def test_a_new_start_begins_with_nothing_in_hand() -> None:
    io = waypost.Server(**OPTIONS, stop_timeout_s=0.0)

    @io.consumer("jobs")
    async def work(message: waypost.Message) -> None:
        await asyncio.Event().wait()

    for _ in range(2):
        async with running(io):
            await io.queue("jobs").emit("job")
            await until(lambda: io.state().queues["jobs"].in_flight == 1)
            assert io.state().queues["jobs"].attached == 1


@pytest.mark.parametrize("how", ["dies", "closes"])
async def test_servers_have_the_sums_also_when_the_owner_of_a_consumer_goes(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("waypost.server.namespaces.numbers._INTERVAL_S", 0.005)

    def prepare(io: waypost.Server) -> None:
        @io.consumer("jobs:all", order="none", concurrency=2)
        async def work(message: waypost.Message) -> None:
            await asyncio.Event().wait()

    options = {**OPTIONS, "stop_timeout_s": 0.0}
    async with servers(3, **options, prepare=prepare) as (nodes, ios):
        for _ in range(6):
            await ios[0].queue("jobs:all").emit("job")

        async def loads() -> list[tuple[int, int]]:
            shown = [io.state().queues.get("jobs:*", waypost.QueueLoad()) for io in ios if io is not gone]
            return [(one.in_flight, one.attached) for one in shown]

        gone: waypost.Server | None = None
        await until_async(loads, lambda all_: all_ == [(6, 3)] * 3, "each knows of all in hand")
        owner = next(
            at for at, io in enumerate(ios) if hub_of(io).deliveries.runner("jobs:all", "default") is not None
        )
        gone = ios[owner]
        if how == "dies":
            nodes.kill(f"n{owner}")
        else:
            await gone.close()
        await until_async(loads, lambda all_: all_ == [(4, 2)] * 2, "what the others have is counted by the next one")
        assert totals(ios[owner - 1], "jobs:*").enqueued == 6


async def test_a_scrape_tells_what_queues_keep() -> None:
    now = 1_000_000.0
    io = waypost.Server(**OPTIONS, environment=Environment(wall_time=lambda: now))
    async with running(io):

        @io.consumer("jobs:dead")
        async def fail(message: waypost.Message) -> None:
            raise waypost.Reject("it can't be done", final=True)

        await io.queue("jobs:a").emit("job")
        now += 60
        for name in ("jobs:a", "jobs:b", "mails"):
            await io.queue(name).emit("job")
        await io.queue("jobs:b").emit("job", delay_s=60)
        await io.queue("jobs:dead").emit("job")
        await until_async(io.queue("jobs:dead").info, lambda info: info.dead_letters == 1, "a dead letter")
        await io.queue("mails").purge()
        found = await scrape(io)
    assert found["waypost_queue_messages", "jobs:*"] == 3
    assert found["waypost_queue_messages", "mails"] == 0
    assert found["waypost_queue_delayed", "jobs:*"] == 1
    assert found["waypost_queue_dead_letters", "jobs:*"] == 1
    assert found["waypost_queue_oldest_age_seconds", "jobs:*"] == 60
    assert found["waypost_queue_oldest_age_seconds", "mails"] == 0


async def test_all_queues_are_read_page_by_page(monkeypatch: pytest.MonkeyPatch, io: waypost.Server) -> None:
    monkeypatch.setattr(survey, "_PAGE", 2)
    monkeypatch.setattr(survey, "_PATIENCE_S", 60.0)
    for number in range(6):
        await io.queue(f"jobs:{number}").emit("job")
    assert (await scrape(io))["waypost_queue_messages", "jobs:*"] == 6


async def test_a_scrape_does_not_wait_for_a_store_that_is_slow(
    monkeypatch: pytest.MonkeyPatch, io: waypost.Server
) -> None:
    monkeypatch.setattr(survey, "_PATIENCE_S", 0.01)
    monkeypatch.setattr(survey, "_FRESH_S", 0.0)
    store = hub_of(io).services.store
    read_queues, may_read = store.queues, asyncio.Event()

    async def read_later(**asked: Any) -> list[QueueRow]:
        await may_read.wait()
        return await read_queues(**asked)

    monkeypatch.setattr(hub_of(io).services, "store", SlowStore(store, read_later))
    page = io.metrics()
    await io.queue("jobs").emit("job")
    assert ("waypost_queue_messages", "jobs") not in samples((await ask(page))[2])
    may_read.set()

    async def shown() -> float | None:
        return samples((await ask(page))[2]).get(("waypost_queue_messages", "jobs"))

    await until_async(shown, lambda messages: messages == 1, "what was read before")
    may_read.clear()
    await io.queue("jobs").emit("job")
    assert await shown() == 1
    may_read.set()
    await until_async(shown, lambda messages: messages == 2, "what is there now")


class SlowStore:
    """A store whose queues are read in another way."""

    def __init__(self, store: Store, queues: Any) -> None:
        self._store = store
        self.queues = queues

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


async def test_a_store_that_fails_has_no_depths_of_before(
    monkeypatch: pytest.MonkeyPatch, io: waypost.Server
) -> None:
    monkeypatch.setattr(survey, "_FRESH_S", 0.0)
    page = io.metrics()
    await io.queue("jobs").emit("job")
    assert samples((await ask(page))[2])["waypost_queue_messages", "jobs"] == 1

    async def fail(**_: Any) -> list[QueueRow]:
        raise waypost.StorageError("the store", "it is broken")

    monkeypatch.setattr(hub_of(io).services, "store", SlowStore(hub_of(io).services.store, fail))
    status, _, text = await ask(page)
    assert status == 200
    assert ("waypost_queue_messages", "jobs") not in samples(text)
    assert samples(text)["waypost_queue_enqueued_total", "jobs"] == 1


async def test_a_server_that_does_not_run_is_not_read() -> None:
    io = waypost.Server(**OPTIONS)
    assert (await scrape(io))["waypost_ready",] == 0
    for _ in range(2):
        async with running(io):
            assert ("waypost_store_read_age_seconds",) in await scrape(io)
    assert ("waypost_store_read_age_seconds",) not in await scrape(io)


async def test_a_scrape_tells_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "_PATIENCE_S", 60.0)
    io = waypost.Server(**OPTIONS, store=tmp_path / "store.db")
    async with running(io):
        await io.emit("event")
        await io.queue("jobs").emit("job")
        found = await scrape(io)
    assert found["waypost_store_commit_seconds_count",] >= 1
    assert found["waypost_store_commit_rows_sum",] >= 2
    assert found["waypost_store_errors_total",] == 0
    assert found["waypost_store_bytes",] >= 4096
    assert found["waypost_store_free_bytes",] > 0
    assert found["waypost_journal_reach_seconds", "/"] >= 0
    assert found["waypost_loop_lag_seconds",] >= 0


async def test_a_write_that_the_store_refuses_is_counted(tmp_path: Path) -> None:
    io = waypost.Server(**OPTIONS, store=tmp_path / "store.db", disk_reserve_bytes=1 << 60)
    async with running(io):
        for _ in range(2):
            with pytest.raises(waypost.StoreFull):
                await io.emit("event")
        assert (await scrape(io))["waypost_store_errors_total",] == 2
