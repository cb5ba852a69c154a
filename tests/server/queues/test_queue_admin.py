"""What server code can do to queues and consumers: emit options, limits, seek, pause, purge, delete, numbers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import waypost
from tests.server.model_client import until
from tests.server.queues.client import QUEUE, Clock, Site, Worker, quiet, site
from tests.support.waiting import DEADLINE_S


async def refused(here: Site, *jobs: Any, **options: Any) -> waypost.QueueFull:
    with pytest.raises(waypost.QueueFull) as raised:
        await here.put(*jobs, **options)
    return raised.value


# -- emit ----------------------------------------------------------------------------------------------------


async def test_batch_is_accepted_whole_with_a_receipt_for_each() -> None:
    async with site() as here:
        await here.queue.emit("job", 0, id="b")
        receipts = await here.queue.emit_many(
            [waypost.NewMessage("job", 1, id="a"), waypost.NewMessage("job", 2, id="b"), waypost.NewMessage("job", 3)]
        )
        assert [(one.offset, one.duplicate) for one in receipts] == [(2, False), (1, True), (3, False)]
        assert await here.queue.emit_many([]) == []
        with pytest.raises(waypost.EncodingFailed):
            await here.queue.emit_many([waypost.NewMessage("job", 4), waypost.NewMessage("job", object())])
        assert (await here.queue.info()).messages == 3


async def test_delayed_message_comes_when_it_is_due_and_blocks_nothing() -> None:
    clock = Clock()
    async with site(clock=clock) as here:
        client = await here.client(auto_ack=True)
        receipt = await here.queue.emit("job", "late", delay_s=60)
        assert receipt.offset == 0
        await here.put("now")
        assert await client.gets(1) == ["now"]
        assert (await here.queue.info()).delayed == 1
        clock.now += 61
        here.io._hub.deliveries.due.look()
        assert await client.gets(2) == ["now", "late"]


async def test_delay_needs_no_nudge() -> None:
    async with site() as here:
        client = await here.client(auto_ack=True)
        await here.put("late", delay_s=0.05)
        await until(lambda: client.jobs == ["late"])


async def test_message_that_outlived_its_time_is_not_delivered() -> None:
    clock = Clock()
    async with site(clock=clock) as here:
        client = await here.client()
        await here.put(1, 2)
        await here.put(3, ttl_s=10)
        await here.put(4)
        await client.gets(1)
        clock.now += 11
        client.auto_ack = True
        client.reply(1)
        assert await client.gets(3) == [1, 2, 4]


@pytest.mark.parametrize("wrong", [{"id": ""}, {"key": ""}, {"ttl_s": 0}, {"delay_s": -1}])
async def test_wrong_arguments_are_refused(wrong: dict[str, Any]) -> None:
    async with site() as here:
        with pytest.raises(waypost.ConfigurationError):
            await here.put(1, **wrong)


# -- limits --------------------------------------------------------------------------------------------------


async def test_full_queue_refuses_with_the_numbers_and_takes_more_when_there_is_room() -> None:
    async with site(max_messages=2) as here:
        await here.put(1, 2)
        problem = await refused(here, 3)
        assert (problem.queue, problem.messages, problem.max_messages) == (QUEUE, 2, 2)
        client = await here.client(auto_ack=True)
        await client.gets(2)
        await here.settled()
        await here.put(3)


async def test_each_consumer_is_told_once_what_it_lost() -> None:
    told: list[Any] = []
    async with site(max_messages=2, overflow="drop_oldest") as here:
        here.io.hooks.messages_lost(told.append)
        client, away = await here.client(), await here.client("away")
        await away.cut()
        await here.put(1, 2, 3, 4)
        await until(lambda: any(event[0] == "messages_lost" for event in client.events))
        await quiet()
        notices = [event for event in client.to_acknowledge if event[1][0] == "messages_lost"]
        notice = notices[-1][1][1]
        assert (notice["queue"], notice["consumer"]) == (QUEUE, "default")
        for ack_id, _ in notices:
            client.acknowledge(ack_id)
        await until_info(here, "lost", 0)
        back = await here.client("away", auto_ack=True)
        await until(lambda: back.jobs == [3, 4])
        [lost] = [event[1] for event in back.events if event[0] == "messages_lost"]
        assert (lost["messages"], lost["first_offset"], lost["last_offset"]) == (2, 1, 2)
        await until_info(here, "lost", 0, "away")
        assert {one.consumer for one in told} == {"default", "away"}


async def test_what_is_lost_while_a_notice_is_not_acknowledged_is_told_too() -> None:
    async with site(max_messages=2, overflow="drop_oldest") as here:
        client = await here.client()
        await here.put(1, 2, 3)
        await until(lambda: any(event[0] == "messages_lost" for event in client.events))
        await here.put(4)
        while (await here.info()).lost != 2:
            await asyncio.sleep(0)
        await quiet()
        for number in range(2):
            await until(lambda number=number: len(notices(client)) > number)  # type: ignore[misc]
            ack_id, (_, notice) = notices(client)[number]
            client.acknowledge(ack_id)
        assert (notice["messages"], notice["first_offset"], notice["last_offset"]) == (2, 1, 2)
        await until_info(here, "lost", 0)


def notices(client: Worker) -> list[Any]:
    return [event for event in client.to_acknowledge if event[1][0] == "messages_lost"]


async def test_options_of_one_queue_are_its_own() -> None:
    async with site() as here:
        options = await here.queue.configure(max_messages=1, order="none")
        assert (options.max_messages, options.order, options.lease_s) == (1, "none", 30)
        assert here.queue.options == options
        await here.put(1)
        await refused(here, 2)
        await here.queue.configure(max_messages=2)
        assert here.queue.options.order == "none"
        await here.put(2)
        assert here.io.queue("other").options.max_messages is None
        with pytest.raises(waypost.ConfigurationError, match="did you mean max_messages"):
            await here.queue.configure(max_mesages=1)  # type: ignore[call-arg]
        with pytest.raises(waypost.ConfigurationError):
            await here.queue.configure(order="fifo")  # type: ignore[arg-type]


# -- moving, pausing, removing -------------------------------------------------------------------------------


async def test_a_place_that_is_none_is_refused_by_the_name_of_its_argument() -> None:
    async with site() as here:
        for wrong in ("yesterday", datetime(2026, 1, 1)):
            with pytest.raises(waypost.ConfigurationError, match=r"^to="):
                await here.queue.get_consumer().seek(wrong)  # type: ignore[arg-type]
            with pytest.raises(waypost.ConfigurationError, match=r"^start="):
                await here.queue.get_consumer("late").create(start=wrong)  # type: ignore[arg-type]


async def test_seek_back_delivers_again_and_voids_the_acks_from_before() -> None:
    async with site() as here:
        client, keeper = await here.client(), await here.client("keeper")
        await here.put(1, 2, 3)
        await client.gets(1)
        client.reply(1)
        await client.gets(2)
        await here.queue.get_consumer().seek("oldest")
        assert (await client.gets(3))[-1] == 1
        client.reply(2)
        await quiet()
        assert (await here.info()).offset == 0
        client.reply(1)
        assert (await client.gets(4))[-1] == 2
        await here.queue.get_consumer().seek("new")
        await here.put(4)
        assert (await client.gets(5))[-1] == 4
        await here.queue.get_consumer().seek(3)
        assert (await client.gets(6))[-1] == 3
        assert keeper.jobs == [1]


async def test_pause_and_resume_of_a_consumer_and_of_the_queue() -> None:
    async with site() as here:
        client, other = await here.client(), await here.client("other", auto_ack=True)
        await here.queue.get_consumer().pause()
        await quiet()
        await here.put(1)
        assert await other.gets(1) == [1]
        assert client.jobs == []
        assert (await here.info()).paused_until == datetime.max.replace(tzinfo=UTC)
        await here.queue.get_consumer().resume()
        await client.gets(1)
        await here.queue.pause()
        client.reply(1)
        await quiet()
        await here.put(2)
        await quiet()
        assert (client.jobs, other.jobs) == ([1], [1])
        await here.queue.resume()
        await client.gets(2)
        await other.gets(2)


async def test_pause_ends_by_itself() -> None:
    async with site() as here:
        client = await here.client()
        for owner in (here.queue, here.queue.get_consumer()):
            with pytest.raises(waypost.ConfigurationError, match="a datetime with a time zone"):
                await owner.pause(until=datetime(2030, 1, 1))
        with pytest.raises(waypost.ConfigurationError):
            await waypost.Server().queue("not started").pause(until=datetime(2030, 1, 1))
        await here.queue.pause(until=datetime.now(UTC) + timedelta(seconds=0.1))
        await quiet()
        await here.put(1)
        await quiet()
        assert client.jobs == []
        await until(lambda: client.jobs == [1])


async def test_purge_and_peek() -> None:
    async with site() as here:
        client = await here.client()
        await here.put(*range(5), key="k")
        await client.gets(1)
        assert [one.args[0] for one in await here.queue.peek(after=1, limit=2)] == [1, 2]
        assert await here.queue.purge(upto=3) == 3
        await quiet()
        assert (await client.gets(2))[-1] == 3
        assert await here.queue.purge() == 2
        client.reply(3)
        await quiet()
        await here.put(9)
        assert (await client.gets(3))[-1] == 9


async def test_numbers_of_many_queues_are_those_of_each() -> None:
    async with site() as here:
        client = await here.client()
        await here.put(1, 2)
        await client.gets(1)
        await here.io.queue("idle").configure(max_failures=2)
        await here.io.queue("letters").emit("job", 1)
        infos = await here.io.queue_infos()
        assert [one.name for one in infos] == ["idle", QUEUE, "letters"]
        assert infos == [await here.io.queue(one.name).info() for one in infos]
        assert infos[1].in_flight == 1
        assert [one.name for one in await here.io.queue_infos(idle=False)] == [QUEUE, "letters"]
        assert [one.name for one in await here.io.queue_infos(after=QUEUE, limit=1)] == ["letters"]
        assert await here.io.queue_infos(after="letters") == []


async def test_deleted_consumer_and_queue_are_gone_and_can_begin_anew() -> None:
    async with site() as here:
        client = await here.client()
        await here.put(1)
        await client.gets(1)
        await here.queue.get_consumer().delete()
        assert await here.queue.consumers() == []
        client.reply(1)
        await quiet()
        await here.socket_of(client).consume(QUEUE)
        assert (await client.gets(2))[-1] == 1
        await here.queue.delete()
        assert (await here.queue.info()).newest_offset == 0
        await here.put(2)
        await here.socket_of(client).consume(QUEUE)
        assert (await client.gets(3))[-1] == 2


async def test_idle_consumer_ends_with_an_event() -> None:
    expired: list[Any] = []
    clock = Clock()
    async with site(clock=clock, server={"consumer_ttl_s": 100}) as here:
        here.io.hooks.consumer_expired(expired.append)
        here_still, gone = await here.client("here"), await here.client("gone")
        await here.put(1)
        await gone.cut()
        clock.now += 101
        await here.io._hub.keep_up()
        assert [(one.queue, one.consumer, one.waiting) for one in expired] == [(QUEUE, "gone", 1)]
        assert [one.name for one in await here.queue.consumers()] == ["here"]
        assert here_still.connected


async def test_numbers() -> None:
    async with site(order="none") as here:
        client = await here.client()
        await here.put(*range(5))
        await client.gets(5)
        client.reply(0)
        client.reply(1, '[{"nack": "no", "retry_in": 60}]')
        await until_info(here, "waiting", 4)
        info = await here.info()
        assert (info.queue, info.name, info.in_flight, info.retrying, info.acknowledged) == (
            QUEUE,
            "default",
            3,
            1,
            1,
        )
        assert (info.redelivered, info.attached, info.dead_letters, info.lost) == (1, 1, 0, 0)
        assert info.delivered_per_s > info.acknowledged_per_s > 0
        queue = await here.queue.info()
        assert (queue.name, queue.newest_offset, queue.consumers, queue.in_flight) == (QUEUE, 5, 1, 3)
        assert queue.oldest_at is not None
        assert queue.delivered_per_s > 0


async def until_info(here: Site, name: str, value: Any, consumer: str = "default") -> None:
    async with asyncio.timeout(DEADLINE_S):
        while getattr(await here.info(consumer), name) != value:
            await asyncio.sleep(0.001)
