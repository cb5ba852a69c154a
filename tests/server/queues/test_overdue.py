"""Messages that a client never acknowledges: a line in the log, and how many wait behind them."""

from __future__ import annotations

import asyncio
import logging

import pytest

import waypost
from tests.server.model_client import until
from tests.server.queues.client import QUEUE, Site, quiet, site
from tests.server.queues.test_failures import until_info
from waypost.server.queues.delivery import Attachment
from waypost.server.queues.overdue import OverdueLog
from waypost.storage.queue_records import MessageRow


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if "does it call its callback" in one.getMessage()]


async def test_a_forgotten_callback_is_logged_after_one_lease_though_heartbeats_renew_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # A heartbeat within each lease, so that none ends.
    async with site(lease_s=0.3, server={"ping_interval_s": 0.05, "ping_timeout_s": 5}) as here:
        client = await here.client()
        await here.put(1, 2, 3)
        await client.gets(1)
        assert (await here.info()).overdue == 0
        await until(lambda: len(lines(caplog)) == 1)
        [line] = lines(caplog)
        assert f"queue '{QUEUE}', consumer 'default'" in line
        assert f"socket {client.sid}" in line
        assert "event 'job'" in line
        assert "2 messages wait behind it" in line
        info = await here.info()
        assert (info.in_flight, info.behind, info.overdue, info.redelivered) == (1, 2, 1, 0)
        client.reply(1)
        await client.gets(2)
        assert (await here.info()).overdue == 0


async def test_it_is_logged_once_an_hour_for_a_consumer(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "waypost.queue")
    tasks: set[asyncio.Task[None]] = set()
    async with site() as here:
        client = await here.client()
        await here.put(1)
        await client.gets(1)
        log = OverdueLog(tasks.add)
        stored = here.io._hub.services.store.queue(QUEUE)
        carrier = next(iter(here.io._hub.deliveries.serving(QUEUE)[0].takers)).carrier
        delivery = Attachment(carrier, prefetch=1, prefetch_bytes=1).hand(MessageRow(1, "a", b"?", 0.0), 0.0)

        async def told(name: str, at: float) -> int:
            log.tell(stored, name, delivery, lease_s=30, now=at)
            await asyncio.gather(*tasks)
            tasks.clear()
            return len(lines(caplog))

        assert [await told("default", at) for at in (0, 1, 3599, 3600, 3601, 7300)] == [1, 1, 1, 2, 2, 3]
        assert [await told("another", at) for at in (7300, 7301)] == [4, 4]
        assert "an unknown number of messages" in lines(caplog)[-1]


@pytest.mark.parametrize("reason", ["the lease was extended", "a function has it", "its connection is silent"])
async def test_what_is_not_forgotten_is_not_logged(reason: str, caplog: pytest.LogCaptureFixture) -> None:
    options = {"ping_interval_s": 0.02, "ping_timeout_s": 60} if reason == "its connection is silent" else {}
    async with site(lease_s=0.1, max_lease_s=0.3, server=options) as here:
        if reason == "a function has it":
            here.io.consumer(QUEUE)(_hang)
            await here.put(1)
        else:
            client = await here.client()
            if reason == "its connection is silent":
                client.stop_reading()
                await asyncio.sleep(0.1)
            await here.put(1)
            if reason == "the lease was extended":
                await client.gets(1)
                here.socket_of(client).extend_lease(QUEUE, seconds=0.3)
        await until_info(here, "redelivered", 1)
        await quiet()
        assert not lines(caplog)


async def _hang(message: waypost.Message) -> None:
    if message.attempt == 1:
        await asyncio.sleep(60)


async def test_behind_counts_those_that_nobody_has(caplog: pytest.LogCaptureFixture) -> None:
    async with site(order="none", prefetch=2) as here:
        client = await here.client()
        await here.put(*range(5))
        await client.gets(2)
        assert (await here.info()).behind == 3
        client.send("1")  # it leaves for good
        await nobody_has_any(here)
        assert (await here.info()).behind == 4
        await here.queue.purge()
        assert (await here.info()).behind == 0


async def nobody_has_any(here: Site) -> None:
    await until_info(here, "in_flight", 0)
