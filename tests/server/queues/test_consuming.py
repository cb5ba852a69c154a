"""Who gets what: competing sockets, several consumers, the three orders, credit, coming and going."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

import waypost
from tests.server.model_client import until
from tests.server.queues.client import QUEUE, Clock, quiet, site


async def test_sockets_on_one_consumer_compete() -> None:
    async with site(order="none", prefetch=3) as here:
        one, two = await here.client(), await here.client()
        await here.put(*range(10))
        await one.gets(3)
        await two.gets(3)
        assert sorted(one.jobs + two.jobs) == list(range(6))
        one.reply(one.jobs[0])
        await one.gets(4)
        one.auto_ack = two.auto_ack = True
        for client in (one, two):
            for job in list(client.jobs):
                if any(arguments[1] == job for _, arguments in client.to_acknowledge):
                    client.reply(job)
        await here.settled()
        assert sorted(one.jobs + two.jobs) == list(range(10))


async def test_several_consumers_each_get_everything_and_publishing_is_one_message() -> None:
    async with site() as here:
        clients = [await here.client(f"device {number}", auto_ack=True) for number in range(5)]
        await here.put(1, 2, 3)
        for client in clients:
            assert await client.gets(3) == [1, 2, 3]
        assert (await here.queue.info()).newest_offset == 3


async def test_key_order_blocks_only_the_same_key() -> None:
    async with site(order="key") as here:
        client = await here.client()
        for job, key in (("a1", "a"), ("a2", "a"), ("b1", "b"), ("c", None), ("a3", "a")):
            await here.put(job, key=key)
        assert await client.gets(3) == ["a1", "b1", "c"]
        client.reply("a1", '[{"nack": "no", "retry_in": 0}]')
        assert (await client.gets(4))[-1] == "a1"
        client.reply("a1")
        assert (await client.gets(5))[-1] == "a2"
        client.reply("b1")
        client.reply("a2")
        assert (await client.gets(6))[-1] == "a3"


async def test_strict_order_takes_over_and_back() -> None:
    async with site() as here:
        old = await here.client()
        await here.put(1, 2)
        await old.gets(1)
        new = await here.client()
        assert await new.gets(1) == [1]
        old.reply(1)
        assert await new.gets(2) == [1, 2], "the ack counts for the message, whoever has it in hand by now"
        new.reply(1)
        await quiet()
        assert (await here.info()).acknowledged == 1
        await new.cut()
        assert await old.gets(2) == [1, 2]


async def test_one_socket_consumes_many_queues() -> None:
    async with site() as here:
        client = await here.client(auto_ack=True)
        socket = here.socket_of(client)
        for number in range(20):
            await socket.consume(f"other {number}")
            await here.io.queue(f"other {number}").emit("job", number)
        assert sorted(await client.gets(20)) == list(range(20))


async def test_a_socket_that_consumes_once_more_is_attached_once() -> None:
    async with site(order="none", prefetch=1) as here:
        client = await here.client()
        await here.socket_of(client).consume(QUEUE, order="none", prefetch=1)
        await here.put(1, 2, 3)
        await client.gets(1)
        info = await here.info()
        assert (info.attached, info.in_flight) == (1, 1)
        client.reply(1)
        await client.gets(2)


async def test_prefetch_ends_at_bytes_too() -> None:
    async with site(order="none", prefetch_bytes=1000) as here:
        client = await here.client()
        await here.put(*("x" * 400 for _ in range(5)))
        await client.gets(3)


async def test_nothing_comes_while_the_connect_handler_runs() -> None:
    async with site() as here:
        await here.put(1)

        @here.io.use
        async def gate(socket: waypost.Socket) -> None:
            await socket.consume("early")

        await here.io.queue("early").emit("job", "early")
        client = await here.client(auto_ack=True)
        assert sorted(map(str, await client.gets(2))) == ["1", "early"]


async def test_stopped_socket_may_finish_what_it_has() -> None:
    async with site() as here:
        client, other = await here.client(), await here.client("other", auto_ack=True)
        await here.put(1, 2)
        await client.gets(1)
        here.socket_of(client).stop_consuming(QUEUE)
        client.reply(1)
        await quiet()
        assert client.jobs == [1]
        assert (await here.info()).offset == 1
        assert (await here.info()).attached == 0
        assert await other.gets(2) == [1, 2]
        await here.socket_of(client).consume(QUEUE)
        assert await client.gets(2) == [1, 2]


@pytest.mark.parametrize(("start", "expected"), [("oldest", [1, 2, 3, 4]), ("new", [4]), (2, [2, 3, 4])])
async def test_new_consumer_starts_where_it_is_told(start: Any, expected: list[int]) -> None:
    async with site(consume={"start": start}) as here:
        await here.put(1, 2, 3)
        client = await here.client(auto_ack=True)
        await here.put(4)
        assert await client.gets(len(expected)) == expected


async def test_new_consumer_starts_at_a_time() -> None:
    clock = Clock()
    async with site(clock=clock) as here:
        await here.put(1)
        clock.now += 100
        here.consume["start"] = datetime.fromtimestamp(clock.now, UTC)
        await here.put(2)
        client = await here.client(auto_ack=True)
        assert await client.gets(1) == [2]


async def test_another_order_is_refused_while_it_is_served() -> None:
    async with site(order="none") as here:
        client = await here.client()
        with pytest.raises(waypost.ConfigurationError, match="is served now"):
            await here.socket_of(client).consume(QUEUE, order="strict")


@pytest.mark.parametrize("wrong", [{"order": "fifo"}, {"prefetch": 0}, {"start": "yesterday"}, {"consumer": ""}])
async def test_wrong_arguments_are_refused(wrong: dict[str, Any]) -> None:
    async with site() as here:
        client = await here.client()
        with pytest.raises(waypost.ConfigurationError):
            await here.socket_of(client).consume(QUEUE, **wrong)


async def test_a_client_can_not_consume_by_itself() -> None:
    async with site() as here:
        client = await here.client("mine")
        await here.io.queue("secret").emit("job", "secret")
        for event in ("consume", "queue", "stop_consuming"):
            client.send(f'2["{event}","secret"]')
        await quiet()
        assert client.jobs == []


async def test_acks_that_nobody_waits_for_are_counted() -> None:
    async with site() as here:
        client = await here.client()
        await here.put(1, 2)
        await client.gets(1)
        ack_id = client.to_acknowledge[0][0]
        client.acknowledge(ack_id)
        client.acknowledge(ack_id)
        client.acknowledge(123)
        await client.gets(2)
        assert here.io.state().counters.unexpected_acks == 2
        assert (await here.info()).offset == 1


async def test_what_waits_takes_its_turn_and_others_are_served() -> None:
    async with site(order="none", prefetch=10) as here:
        await here.queue.emit_many([waypost.NewMessage("job", number) for number in range(3_000)])
        client = await here.client(auto_ack=True)
        other = await here.client("other")
        await here.io.queue("small").emit("job", "other")
        await here.socket_of(other).consume("small")
        await until(lambda: "other" in other.jobs)
        assert len(client.jobs) < 3_000
        await until(lambda: len(client.jobs) == 3_000)
        assert client.jobs == list(range(3_000))


async def test_slow_reader_is_not_cut_off_by_its_backlog() -> None:
    async with site(order="none", server={"max_buffered_bytes": 100_000}) as here:
        await here.put(*(f"{number:06}" + "x" * 20_000 for number in range(40)))
        client = await here.client(auto_ack=True)
        client.stop_reading()
        await quiet()
        client.read_on()
        await until(lambda: len(client.jobs) == 40)
        assert client.connected


async def test_a_socket_that_never_consumed_may_stop_and_disturbs_nobody() -> None:
    async with site() as here:
        client = await here.client()
        other = await here.client("another consumer")
        here.socket_of(other).stop_consuming(QUEUE)
        await here.put(1)
        await client.wait_for(1)
