"""Nacks, leases, lost connections, backoff, dead letters, redrive."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.server.model_client import running, until
from tests.server.queues.client import QUEUE, Clock, Site, quiet, site
from tests.support.waiting import DEADLINE_S, until_async
from waypost.protocol.rejections import Rejection, read_nack
from waypost.server.queues.options import QueueOptions
from waypost.server.queues.verdict import Blame, Verdict, is_spent, judge
from waypost.storage.queue_records import Attempt, MessageRow

NACK = '[{"nack": "no", "retry_in": 0}]'


async def dead(here: Site) -> list[waypost.DeadLetter]:
    return await here.queue.dead_letters()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([{"nack": "why", "retry_in": 3}], Rejection("why", retry_in_s=3.0)),
        ([{"nack": True}], Rejection("rejected")),
        ([{"nack": "x", "retry_in": "soon"}], Rejection("x")),
        ([{"nack": "x", "retry_in": -1}], Rejection("x")),
        ([{"nack": "x", "retry_in": 10**400}], Rejection("x")),
        ([{"nack": "x", "retry_in": True}], Rejection("x")),
        ([{"nack": "x", "final": True}], Rejection("x", is_final=True)),
        ([{"nack": "x", "final": 1}], Rejection("x")),
        ([{"nack": ""}], None),
        ([{"status": "ok"}], None),
        (["ok"], None),
        ([], None),
        ([{"nack": "x"}, 1], None),
    ],
)
def test_what_is_a_nack(arguments: list[Any], expected: Rejection | None) -> None:
    assert read_nack(arguments) == expected


def test_backoff_doubles_up_to_its_top_with_jitter() -> None:
    options = QueueOptions(max_failures=100)

    def pause(failures: int, chance: float) -> float:
        verdict = decide(Blame.REJECTED, options, failures=failures, chance=chance)
        assert verdict.delay_s is not None
        return round(verdict.delay_s, 3)

    assert [pause(failures, 0.5) for failures in range(10)] == [1, 2, 4, 8, 16, 32, 64, 128, 250, 250]
    assert (pause(0, 0.0), pause(0, 1.0)) == (0.8, 1.2)
    assert (pause(99 - 1, 0.0), pause(99 - 1, 1.0)) == (200, 300)


def test_twenty_failures_take_about_an_hour() -> None:
    delays = [decide(Blame.REJECTED, QueueOptions(), failures=failures).delay_s for failures in range(20)]
    assert delays[-1] is None
    assert 45 * 60 < sum(delay for delay in delays[:-1] if delay is not None) < 75 * 60


def test_a_final_nack_is_the_last_one() -> None:
    assert decide(Blame.REJECTED, QueueOptions(), is_final=True).delay_s is None


def test_lost_connections_alone_give_nothing_up() -> None:
    options = QueueOptions()
    # Something was acknowledged before each of them.
    assert [decide(Blame.LOST, options, losses=losses, acknowledged=losses).delay_s for losses in range(100)] == (
        [0.0] * 100
    )
    assert decide(Blame.LOST, options, failures=19).delay_s == 0.0


def test_max_losses_limits_lost_connections() -> None:
    options = QueueOptions(max_losses=3)
    assert [decide(Blame.LOST, options, losses=losses, acknowledged=losses).delay_s for losses in range(3)] == [
        0.0,
        0.0,
        None,
    ]


def test_five_broken_connections_in_a_row_are_enough() -> None:
    message = MessageRow(1, "a", b"", 0.0)
    for breaks in range(1, 6):
        verdict = judge_row(Blame.LOST, message, acknowledged=7)
        assert (verdict.breaks, verdict.is_undeliverable) == (breaks, breaks == 5)
        message = message._replace(losses=verdict.losses, breaks=verdict.breaks, breaks_since=7)
    assert judge_row(Blame.LOST, message, acknowledged=8).breaks == 1
    assert judge_row(Blame.REJECTED, message, acknowledged=7).breaks == 0
    for blame in (Blame.SILENT, Blame.STOPPED):
        four = message._replace(breaks=4)
        assert [judge_row(blame, four, acknowledged=count).breaks for count in (7, 8)] == [4, 0]


def test_a_function_that_dies_with_its_process_is_counted() -> None:
    message = MessageRow(1, "a", b"", 0.0, failures=3, losses=40, deaths=19)
    dead = message._replace(deaths=20)
    options = QueueOptions()
    assert is_spent(dead, options, in_process=True)
    assert not is_spent(message, options, in_process=True)
    assert not is_spent(dead, options, in_process=True, max_losses=21)
    assert is_spent(message, options, in_process=True, max_losses=19)
    assert is_spent(message, QueueOptions(max_losses=19), in_process=True)
    assert not is_spent(dead, options, in_process=False)
    assert is_spent(message, QueueOptions(max_losses=40), in_process=False)


def test_a_stop_is_counted_as_a_delivery_and_ends_nothing() -> None:
    message = MessageRow(1, "a", b"", 0.0, losses=90, deaths=19)
    verdict = judge_row(Blame.STOPPED, message)
    assert (verdict.losses, verdict.failures, verdict.delay_s) == (91, 0, 0.0)


def test_max_deliveries_counts_for_one_more_release() -> None:
    with pytest.warns(DeprecationWarning, match="max_failures") as told:
        options = QueueOptions(max_deliveries=20)
    assert told[0].filename == __file__
    assert decide(Blame.LOST, options, failures=4, losses=14, acknowledged=1).delay_s == 0.0
    assert decide(Blame.LOST, options, failures=4, losses=15, acknowledged=1).delay_s is None
    assert decide(Blame.REJECTED, options, failures=4, losses=15).delay_s is None


async def test_max_deliveries_that_is_stored_for_a_queue_counts_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = tmp_path / "store.db"
    async with running(waypost.Server(store=store, drain_s=0)) as before:
        with pytest.warns(DeprecationWarning, match="max_losses"):
            await before.queue("jobs").configure(max_deliveries=2)
        await before.queue("jobs").emit("job", 1)
    after = waypost.Server(store=store, drain_s=0, queues=QueueOptions(first_backoff_s=0))
    attempts: list[int] = []

    @after.consumer("jobs")
    async def reject(message: waypost.Message) -> None:
        attempts.append(message.attempt)
        raise waypost.Reject("no")

    with pytest.warns(DeprecationWarning, match="max_losses"):
        await after.start()
    await until_async(after.queue("jobs").info, lambda info: info.dead_letters == 1, "a dead letter")
    await after.close()
    assert attempts == [1, 2]
    assert "queue 'jobs': max_deliveries is configured" in caplog.text


def decide(
    blame: Blame,
    options: QueueOptions,
    *,
    acknowledged: int = 0,
    is_final: bool = False,
    chance: float = 0.5,
    failures: int = 0,
    losses: int = 0,
) -> Verdict:
    """Judge a delivery of a message with some counts."""
    row = MessageRow(1, "a", b"", 0.0, failures=failures, losses=losses)
    return judge(
        blame, row, acknowledged=acknowledged, retry_in_s=None, is_final=is_final, options=options, chance=chance
    )


def judge_row(blame: Blame, row: MessageRow, *, acknowledged: int = 0) -> Verdict:
    """Judge a delivery of a message by the default options."""
    return judge(
        blame,
        row,
        acknowledged=acknowledged,
        retry_in_s=None,
        is_final=False,
        options=QueueOptions(),
        chance=0.5,
    )


async def test_strict_order_waits_for_the_rejected_one() -> None:
    clock = Clock()
    async with site(clock=clock) as here:
        client = await here.client()
        await here.put(1, 2)
        await client.gets(1)
        client.reply(1, '[{"nack": "later", "retry_in": 60}]')
        await quiet()
        assert client.jobs == [1]
        assert (await here.info()).retrying == 1
        clock.now += 61
        here.io._hub.deliveries.changed(QUEUE)
        assert await client.gets(2) == [1, 1]
        client.reply(1)
        assert await client.gets(3) == [1, 1, 2]


async def test_a_pause_outlives_the_consumers_absence() -> None:
    clock = Clock()
    async with site(clock=clock, order="none") as here:
        client = await here.client()
        await here.put(1, 2)
        await client.gets(2)
        client.reply(1, '[{"nack": "later", "retry_in": 60}]')
        client.reply(2)
        await quiet()
        await client.cut()
        again = await here.client()
        await quiet()
        assert again.jobs == []
        clock.now += 61
        here.io._hub.deliveries.changed(QUEUE)
        assert await again.gets(1) == [1]


class Ticking(Clock):
    """Wall time that passes with each look at it: whatever falls due does so between two looks."""

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


@pytest.mark.parametrize("order", ["strict", "key", "none"])
async def test_a_pause_may_end_between_any_two_looks_at_the_clock(order: str) -> None:
    clock = Ticking()
    async with site(clock=clock, order=order, max_failures=100) as here:
        client = await here.client()
        await here.put(1)
        await client.gets(1)
        for pause_s in (0.003 + tenths / 10_000 for tenths in range(40)):
            client.reply(1, f'[{{"nack": "later", "retry_in": {pause_s}}}]')
            await client.gets(len(client.jobs) + 1)
            await here.queue.pause(until=datetime.fromtimestamp(clock.now + pause_s, UTC))
            client.reply(1, NACK)
            await client.gets(len(client.jobs) + 1)


async def test_max_failures_make_a_dead_letter_and_the_next_one_comes() -> None:
    died: list[Any] = []
    async with site(max_failures=5) as here:
        here.io.hooks.message_died(died.append)
        client = await here.client()
        await here.queue.emit("job", 1, {"label": b"\x00"}, id="poison", key="k")
        await here.put(2)
        for attempt in range(1, 6):
            await client.gets(attempt)
            client.reply(1, '[{"nack": "bad label", "retry_in": 0}]')
        assert (await client.gets(6))[-1] == 2
        client.reply(2)
        await here.settled()
        [letter] = await dead(here)
        assert (letter.id, letter.key, letter.event, list(letter.args)) == (
            "poison",
            "k",
            "job",
            [1, {"label": b"\x00"}],
        )
        assert (letter.consumer, letter.offset, letter.failures, letter.lost_deliveries) == ("default", 1, 5, 0)
        assert letter.reason == "bad label"
        assert [item.kind for item in letter.history] == ["rejected"] * 5
        assert [one.id for one in died] == ["poison"]
        assert here.io.state().counters.queues["jobs"].dead_lettered == {"rejected": 1}


async def test_lost_connection_blames_only_the_oldest() -> None:
    async with site(order="none", prefetch=4, max_losses=3, lease_s=0.3) as here:
        await here.put("poison", 2, 3, 4)
        for _ in range(3):
            client = await here.client()
            await client.gets(4)
            await client.cut()
        client = await here.client(auto_ack=True)
        await client.gets(3)
        await here.settled()
        assert sorted(client.jobs) == [2, 3, 4]
        [letter] = await dead(here)
        assert (letter.args[0], letter.failures, letter.lost_deliveries) == ("poison", 0, 3)


@pytest.mark.parametrize("leaves", ["leaves its page", "disconnects", "is disconnected", "is passed over"])
async def test_who_leaves_is_not_counted(leaves: str) -> None:
    async with site(max_losses=1) as here:
        await here.put(1)
        others = []
        for _ in range(22):
            client = await here.client()
            await client.gets(1)
            assert client.connection is not None
            if leaves == "leaves its page":
                client.connection.lose_transport("transport close", client_left=True)
            elif leaves == "disconnects":
                client.send("1")
            elif leaves == "is disconnected":
                await here.socket_of(client).disconnect()
            else:
                others.append(client)
        client = await here.client(auto_ack=True)
        assert await client.gets(1) == [1]
        await here.settled()
        assert (await here.info()).redelivered == 0
        assert not await dead(here)


async def test_what_five_connections_could_not_deliver_is_undeliverable_and_the_next_one_comes() -> None:
    async with site() as here:
        await here.put("too large", 2)
        for _ in range(5):
            client = await here.client()
            await client.gets(1)
            await client.cut()
        client = await here.client(auto_ack=True)
        assert await client.gets(1) == [2]
        await here.settled()
        [letter] = await dead(here)
        assert (letter.args[0], letter.reason, letter.failures, letter.lost_deliveries) == (
            "too large",
            "undeliverable",
            0,
            5,
        )


@pytest.mark.parametrize("between", ["an ack", "a nack"])
async def test_an_answer_between_broken_connections_begins_their_count_anew(between: str) -> None:
    async with site(order="none", prefetch=1, server={"recovery": None}) as here:
        await here.put(1)
        for round_ in range(12):
            client = await here.client()
            await client.gets(1)
            if round_ % 4 == 3 and between == "a nack":
                client.reply(1, NACK)
                await client.gets(2)
            elif round_ % 4 == 3:
                other = await here.client()
                await here.put(2)
                await other.gets(1)
                other.reply(2)
                await quiet()
                other.send("1")
            await client.cut()
        assert not await dead(here)
        client = await here.client(auto_ack=True)
        assert await client.gets(1) == [1]


async def test_what_crashes_have_brought_to_the_last_delivery_is_not_sent_once_more() -> None:
    async with site(max_losses=3) as here:
        await here.queue.get_consumer().create()
        await here.put("deadly", 2)
        stored = here.io._hub.services.store.queue(QUEUE)
        epoch = (await stored.consumer("default")).epoch
        await stored.retry("default", epoch, [Attempt(1, 0, 3, "lost", "the server ended", 1.0)])
        client = await here.client(auto_ack=True)
        await client.gets(1)
        await here.settled()
        assert client.jobs == [2]
        [letter] = await dead(here)
        assert (letter.args[0], letter.failures, letter.lost_deliveries) == ("deadly", 0, 3)
        assert "the server ended" in letter.reason


@pytest.mark.parametrize("ended_by", ["a limit", "its time to live"])
async def test_messages_of_a_key_go_on_when_the_paused_one_before_them_is_gone(ended_by: str) -> None:
    async with site(order="key", max_messages=2, overflow="drop_oldest", clock=(clock := Clock())) as here:
        client = await here.client()
        await here.put(1, key="k", **({"ttl_s": 1} if ended_by == "its time to live" else {}))
        await client.gets(1)
        client.reply(1, '[{"nack": "later", "retry_in": 0.05}]')
        await until_retrying(here)
        await here.put(2, key="k")
        if ended_by == "a limit":
            await here.put(3)
        clock.now += 10
        await here.queue.resume()
        await until(lambda: 2 in client.jobs)
        assert client.jobs[0] == 1
        assert 1 not in client.jobs[1:]


async def until_retrying(here: Site) -> None:
    while (await here.info()).retrying != 1:
        await asyncio.sleep(0)


async def test_lease_that_runs_out_on_a_live_client_is_a_failure_and_the_late_ack_counts() -> None:
    async with site(lease_s=0.02, max_failures=3, first_backoff_s=0.05, backoff_jitter=0) as here:
        client = await here.client()
        await here.put(1, 2)
        await client.gets(1)
        await until_info(here, "retrying", 1)
        client.reply(1)
        assert await client.gets(2) == [1, 2]
        assert (await here.info()).offset == 1


async def test_client_that_never_acknowledges_ends_with_a_dead_letter() -> None:
    async with site(lease_s=0.01, max_failures=2) as here:
        client = await here.client()
        await here.put(1)
        await until_info(here, "dead_letters", 1)
        assert client.jobs == [1, 1]
        [letter] = await dead(here)
        assert letter.reason.startswith("not acknowledged within")
        assert letter.history[0].kind == "expired"


async def test_heartbeats_renew_the_lease_up_to_its_limit() -> None:
    options = {"ping_interval_s": 0.02, "ping_timeout_s": 5}
    async with site(lease_s=0.3, max_lease_s=0.8, server=options) as here:
        client = await here.client()
        await here.put(1)
        began = asyncio.get_running_loop().time()
        await until(lambda: len(client.jobs) == 2)
        assert asyncio.get_running_loop().time() - began >= 0.8


async def test_pings_of_an_engine_io_3_client_renew_the_lease_too() -> None:
    async with site(lease_s=0.1) as here:
        client = await here.client()
        await here.put(1)
        await client.gets(1)
        assert client.connection is not None
        for _ in range(15):
            client.connection.receiver.heartbeat_came()
            await asyncio.sleep(0.02)
        assert client.jobs == [1]
        assert (await here.info()).redelivered == 0


async def test_lease_is_extended_on_request() -> None:
    async with site(lease_s=0.3) as here:
        client = await here.client()
        await here.put(1)
        await client.gets(1)
        assert here.socket_of(client).extend_lease(QUEUE, seconds=60) == 1
        await asyncio.sleep(0.5)
        assert client.jobs == [1]
        client.reply(1)
        await here.settled()
        assert here.socket_of(client).extend_lease(QUEUE, seconds=60) == 0


async def test_silent_client_is_passed_over_without_a_failure_until_it_is_heard_again() -> None:
    options = {"ping_interval_s": 0.02, "ping_timeout_s": 60}
    async with site(lease_s=0.05, server=options) as here:
        standby, client = await here.client(), await here.client()
        client.stop_reading()
        await here.put(1)
        assert await standby.gets(1) == [1]
        standby.reply(1)
        await here.settled()
        assert (await here.info()).redelivered == 1
        assert not await dead(here)
        client.read_on()
        await until(lambda: client.jobs == [1])
        await quiet()
        await here.put(2)
        await until(lambda: client.jobs == [1, 2])
        assert standby.jobs == [1]


async def test_a_client_that_is_silent_again_and_again_over_one_connection_is_counted_once() -> None:
    options = {"ping_interval_s": 0.02, "ping_timeout_s": 60}
    async with site(lease_s=0.05, server=options) as here:
        client = await here.client()
        await here.put(1)
        for times in range(1, 8):
            await client.gets(times)
            client.stop_reading()
            await until_info(here, "redelivered", times)
            client.read_on()
        await client.gets(8)
        client.reply(1)
        await here.settled()
        assert not await dead(here)


async def test_redrive_delivers_again_behind_all_others_to_that_consumer_alone() -> None:
    async with site(max_failures=1) as here:
        client, other = await here.client(), await here.client("other", auto_ack=True)
        await here.queue.emit("job", 1, id="a")
        await here.put(2, 3)
        for job in (1, 2, 3):
            await until(lambda job=job: job in client.jobs)  # type: ignore[misc]
            client.reply(job, NACK)
        await until_info(here, "dead_letters", 3)
        assert await here.queue.redrive(waypost.DeadLetterFilter(id="a")) == 1
        assert await client.gets(4) == [1, 2, 3, 1]
        client.reply(1)
        await here.settled()
        assert [letter.args[0] for letter in await dead(here)] == [2, 3]
        assert other.jobs == [1, 2, 3]
        client.auto_ack = True
        assert await here.queue.redrive() == 2
        assert await client.gets(6) == [1, 2, 3, 1, 2, 3]
        await here.settled()
        assert not await dead(here)


async def test_redrive_ends_though_what_it_delivers_dies_again(monkeypatch: pytest.MonkeyPatch) -> None:
    # In many steps, so that what was redriven first is dead again before the last one.
    monkeypatch.setattr("waypost.server.queues.queue._PAGE", 1)
    async with site(max_failures=1) as here:
        tried: list[Any] = []

        @here.io.consumer("vain", concurrency=500)
        async def reject(message: waypost.Message, number: int) -> None:
            tried.append(number)
            raise waypost.Reject("as ever")

        queue = here.io.queue("vain")
        await queue.emit_many([waypost.NewMessage("job", number) for number in range(100)])
        await until_dead(queue, 100)
        async with asyncio.timeout(DEADLINE_S):
            assert await queue.redrive() == 100
        await until(lambda: len(tried) == 200)
        await until_dead(queue, 100)


async def until_dead(queue: waypost.Queue, letters: int) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while (await queue.info()).dead_letters != letters:
            await asyncio.sleep(0.001)


async def test_redrive_keeps_to_a_rate() -> None:
    clock = Clock()
    async with site(max_failures=1, clock=clock) as here:
        client = await here.client()
        await here.put(1, 2, 3)
        for job in (1, 2, 3):
            await until(lambda job=job: job in client.jobs)  # type: ignore[misc]
            client.reply(job, NACK)
        await until_info(here, "dead_letters", 3)
        client.auto_ack = True
        assert await here.queue.redrive(rate_per_s=0.1) == 3
        assert await client.gets(4) == [1, 2, 3, 1]
        assert (await here.queue.info()).delayed == 2
        for count in (5, 6):
            clock.now += 10
            here.io._hub.deliveries.due.look()
            await client.gets(count)
        assert await here.queue.discard_dead_letters() == 0


async def test_dead_letters_can_be_discarded() -> None:
    async with site(max_failures=1) as here:
        client = await here.client()
        await here.put(1)
        await client.gets(1)
        client.reply(1, NACK)
        await until_info(here, "dead_letters", 1)
        assert await here.queue.discard_dead_letters(waypost.DeadLetterFilter(reason="something else")) == 0
        assert await here.queue.discard_dead_letters() == 1
        assert (await here.queue.info()).dead_letters == 0


async def until_info(here: Site, name: str, value: int) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while getattr(await here.info(), name) != value:
            await asyncio.sleep(0.001)
