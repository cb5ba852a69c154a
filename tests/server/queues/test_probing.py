"""A consumer that probes: what a dependency that is away costs, and what it does not hold up."""

from __future__ import annotations

import asyncio
from collections import Counter
from math import inf
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import waypost
from tests.server.model_client import running, until
from tests.server.queues.client import Clock, quiet, site
from tests.server.queues.test_failures import NACK, dead, until_info
from waypost.retrying import RetryPolicy
from waypost.server.queues.options import Order
from waypost.server.queues.orders.delivery_order import ReadOn
from waypost.server.queues.orders.making import make_order
from waypost.server.queues.probing import FEWEST, MOST, Probing
from waypost.storage.queue_records import MessageRow
from waypost.storage.sqlite.queues.queue import SqliteQueue

LATER = '[{"nack": "no"}]'
BACKOFF = RetryPolicy(1, 300, 0)

# A message goes out if it may, one that is out succeeds, fails or comes back, or time passes.
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["send", "send", "send", "ack", "fail", "fail", "fail", "return", "wait"]),
        st.integers(0, 30),
    ),
    max_size=120,
)


@given(steps=STEPS, prefetch=st.integers(1, 20))
def test_a_consumer_probes_after_failures_in_a_row_with_one_message_at_a_time(
    steps: list[tuple[str, int]], prefetch: int
) -> None:
    probing = Probing()
    now, row, paused_until, failed_before = 0.0, 0, -inf, None
    is_probing = False
    out: list[int] = []
    probe: int | None = None
    pauses = most = 0
    for kind, number in steps:
        if kind == "wait":
            now += number
        elif kind == "send":
            may = not is_probing or (probe is None and paused_until <= now)
            assert probing.may_hand_out(now) == may
            if may and len(out) < prefetch and number not in out:
                out.append(number)
                probing.handed(number)
                probe = number if is_probing else None
        elif out:
            message = out[number % len(out)]
            if kind == "fail":
                row, most = row + 1, max(most, len(out))
                begins = not is_probing and row >= min(max(most, FEWEST), MOST)
                assert probing.failed(message, in_hand=len(out), now=now, backoff=BACKOFF, chance=0.5) == begins
                is_probing = is_probing or begins
                if (begins or message == probe) and message != failed_before:
                    pauses += 1
                    paused_until = now + BACKOFF.pause_s(pauses)
                failed_before = message
            elif kind == "ack":
                assert probing.succeeded() == is_probing
                is_probing, paused_until, failed_before, probe = False, -inf, None, None
                row = pauses = most = 0
            else:
                probing.returned(message)
            probe = None if message == probe else probe
            out.remove(message)
        assert probing.is_active == is_probing
        assert probing.failures == row
        # Whoever waits for the next probe learns when it is: nothing stands still.
        assert probing.may_hand_out(max(now, probing.next_at)) or probe is not None


@pytest.mark.parametrize("order", ["key", "none"])
def test_a_probe_is_what_has_been_due_for_longest(order: Order) -> None:
    upcoming = make_order(order, 0)
    messages = [
        MessageRow(position, str(position), b"", 0.0, failures=failures, retry_at=retry_at)
        for position, failures, retry_at in ((1, 2, 7.0), (2, 1, 5.0), (3, 0, 0.0), (4, 1, 6.0), (5, 0, 0.0))
    ]
    upcoming.take(ReadOn(0), messages, 10.0, complete=True)
    probes = []
    while (message := upcoming.next(10.0, probing=True)) is not None:
        probes.append(message.position)
    assert probes == [3, 5, 2, 4, 1]


async def let_a_dependency_be_away(away_s: float) -> Counter[int]:
    """Handle 1,000 e-mails while the mail server is away; returns how often each was tried in vain."""
    io = waypost.Server(drain_s=0)
    failed: Counter[int] = Counter()
    sent: list[int] = []
    back_at = inf

    @io.consumer("emails", concurrency=10)
    async def send(message: waypost.Message, number: int) -> None:
        await asyncio.sleep(0)
        if asyncio.get_running_loop().time() < back_at:
            failed[number] += 1
            raise ConnectionRefusedError("the mail server is away")
        sent.append(number)

    async with running(io):
        queue = io.queue("emails")
        back_at = asyncio.get_running_loop().time() + away_s
        await queue.emit_many([waypost.NewMessage("email", number) for number in range(1000)])
        async with asyncio.timeout(away_s + 60):
            while (await queue.get_consumer().info()).waiting:
                await asyncio.sleep(0.05)
        info = await queue.get_consumer().info()
        assert (info.dead_letters, info.waiting) == (0, 0)
    assert sorted(sent) == list(range(1000))
    return failed


async def test_a_dependency_that_is_away_for_a_moment_costs_tries_of_few_messages(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failed = await let_a_dependency_be_away(2.5)
    # Ten in a row, those that were out with them, and a probe after 1 and 2 seconds.
    assert MOST <= failed.total() <= 2 * MOST + 5
    assert max(failed.values()) <= 3
    assert "10 failures in a row" in caplog.text


@pytest.mark.long
async def test_a_dependency_that_is_away_for_20_seconds_costs_tries_of_few_messages() -> None:
    failed = await let_a_dependency_be_away(20)
    assert MOST <= failed.total() <= 2 * MOST + 10


async def test_the_first_success_ends_probing() -> None:
    async with site(order="none", consume={"prefetch": 4}, first_backoff_s=1000) as here:
        client = await here.client()
        await here.put(*range(10))
        await client.gets(4)
        for job in (0, 1, 2):
            client.reply(job, LATER)
        # Three failures with four in hand: others still go out.
        await client.gets(7)
        client.reply(4, LATER)
        await client.gets(7)
        client.reply(3)
        assert await client.gets(9) == list(range(9))


async def test_one_bad_message_does_not_hold_up_new_ones() -> None:
    async with site(order="none", first_backoff_s=1000, max_failures=100) as here:
        client = await here.client()
        await here.put("bad")
        for attempt in range(1, 20):
            await client.gets(attempt)
            client.reply("bad", NACK)
        await client.gets(20)
        await here.put("good")
        client.reply("bad", LATER)
        await until(lambda: "good" in client.jobs)


async def test_a_probe_that_comes_back_without_an_answer_is_followed_by_another() -> None:
    async with site(order="none", prefetch=1, first_backoff_s=0) as here:
        client = await here.client()
        await here.put(*range(10))
        for count in range(1, 4):
            await client.gets(count)
            client.reply(client.jobs[-1], NACK)
        await client.gets(4)
        other = await here.client()
        await quiet()
        assert other.jobs == []
        client.send("1")
        await other.gets(1)


async def test_a_newer_socket_takes_over_a_probe_in_strict_order() -> None:
    async with site(first_backoff_s=1000) as here:
        older = await here.client()
        await here.put("bad", "next")
        for attempt in range(1, 4):
            await older.gets(attempt)
            older.reply("bad", NACK)
        await older.gets(4)
        newer = await here.client()
        assert await newer.gets(1) == ["bad"]


async def test_final_rejections_are_no_failures_in_a_row() -> None:
    async with site(order="none", prefetch=1, first_backoff_s=1000) as here:
        client = await here.client()
        await here.put(*range(30))
        for count in range(1, 31):
            await client.gets(count)
            client.reply(client.jobs[-1], '[{"nack": "bad", "final": true}]')
        await until_info(here, "waiting", 0)
        assert {(letter.reason, letter.failures) for letter in await dead(here)} == {("bad", 1)}


async def test_the_fifth_failure_of_a_strict_head_is_logged_with_those_that_wait(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def lines() -> list[str]:
        return [one.getMessage() for one in caplog.records if "wait behind it" in one.getMessage()]

    async with site() as here:
        client = await here.client()
        await here.queue.emit("job", "bad", id="the bad one")
        await here.put(*range(7))
        for attempt in range(1, 8):
            await client.gets(attempt)
            assert len(lines()) == (attempt > 5)
            client.reply("bad", NACK)
            await quiet()
        [line] = lines()
        assert "the bad one has failed 5 times, and 7 messages wait behind it: no" in line


@pytest.mark.parametrize("count", [3000, pytest.param(100_000, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
async def test_burials_are_stored_in_batches(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    bury = SqliteQueue.bury

    async def counted(self: SqliteQueue, consumer: str, epoch: int, attempts: Any) -> Any:
        sizes.append(len(attempts))
        return await bury(self, consumer, epoch, attempts)

    monkeypatch.setattr(SqliteQueue, "bury", counted)
    io = waypost.Server(store=tmp_path / "store.db", drain_s=0)

    @io.consumer("jobs", concurrency=500)
    async def refuse(message: waypost.Message) -> None:
        raise waypost.Reject("never", final=True)

    async with running(io):
        queue = io.queue("jobs")
        for first in range(0, count, 1000):
            await queue.emit_many([waypost.NewMessage("job", first + number) for number in range(1000)])
        async with asyncio.timeout(count / 50):
            while (await queue.info()).dead_letters < count:
                await asyncio.sleep(0.01)
    assert max(sizes) <= 128
    assert sum(sizes) == count
    assert len(sizes) < count / 20


async def test_probing_goes_by_the_stores_clock() -> None:
    clock = Clock()
    async with site(order="none", clock=clock, prefetch=1, first_backoff_s=60, backoff_jitter=0) as here:
        client = await here.client()
        await here.put(*range(5))
        for count in range(1, 4):
            await client.gets(count)
            client.reply(client.jobs[-1], LATER)
        await quiet()
        assert len(client.jobs) == 3
        clock.now += 59
        here.io._hub.deliveries.changed("jobs")
        await quiet()
        assert len(client.jobs) == 3
        clock.now += 2
        here.io._hub.deliveries.changed("jobs")
        await client.gets(4)
