"""What a client has in hand: over a cut, after its lease, in other hands meanwhile; and how much it gets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.server.model_client import hub_of, until
from tests.server.queues.client import QUEUE, Site, Worker, quiet, site
from tests.sim.clock import VirtualLoop
from tests.support.waiting import DEADLINE_S
from waypost.protocol.engineio import Frame
from waypost.protocol.socketio import Decoder
from waypost.server.connections.connection import Connection


class Asked(Worker):
    """A client that counts how often it is asked whether it has got everything."""

    asked = 0

    def _take(self, connection: Connection, decoder: Decoder, frame: Frame) -> None:
        self.asked += frame == "2"
        super()._take(connection, decoder, frame)


async def arrived(client: Worker) -> None:
    """Wait until the server knows that all it has sent so far has arrived."""
    assert client.connection is not None
    out = next(iter(client.hub.directory.core("/").index)).out
    await until(lambda: not out.acks.awaits_arrival)


async def come_back(client: Worker) -> None:
    await client.connect("default")
    assert client.recovered
    await quiet()


async def until_waiting(here: Site, waiting: int) -> None:
    while (await here.info()).waiting != waiting:
        await asyncio.sleep(0)


@pytest.mark.parametrize("order", ["strict", "key", "none"])
async def test_what_has_arrived_stays_in_hand_over_a_cut(order: str) -> None:
    async with site(order=order, prefetch=4) as here:
        client = await here.client()
        await here.put(1, 2, 3)
        await client.gets(1 if order == "strict" else 3)
        await arrived(client)
        before = list(client.jobs)
        await client.cut()
        assert (await here.info()).attached == 0
        assert (await here.info()).in_flight == len(before)
        await come_back(client)
        await arrived(client)
        await quiet()
        assert client.jobs == before, "nothing is sent again"
        for job in before:
            client.reply(job)
        client.auto_ack = True
        await until_waiting(here, 0)
        assert sorted(client.jobs) == [1, 2, 3]
        assert (await here.info()).redelivered == 0


async def test_what_may_not_have_arrived_is_sent_again_after_the_return() -> None:
    async with site(order="none") as here:
        client = await here.client()
        client.is_deaf = True
        await here.put(1, 2)
        await quiet()
        await client.cut()
        client.is_deaf = False
        await come_back(client)
        await client.gets(2)
        assert sorted(client.jobs) == [1, 2]


async def test_an_ack_of_what_came_later_proves_that_it_has_arrived() -> None:
    async with site(order="none") as here:
        client = await here.client()
        await here.put(1, 2)
        await client.gets(2)
        client.reply(2)
        await client.cut()
        await come_back(client)
        await arrived(client)
        await quiet()
        assert client.jobs == [1, 2]
        client.reply(1)
        await until_waiting(here, 0)


async def test_a_client_may_acknowledge_at_its_return_what_it_did_not_confirm_before() -> None:
    async with site() as here:
        client = await here.client()
        await here.put(1)
        await client.gets(1)
        await client.cut()
        await client.connect("default")
        client.reply(1)
        await until_waiting(here, 0)
        await arrived(client)
        await quiet()
        assert client.jobs == [1]


async def test_it_stays_in_hand_over_several_cuts_and_a_second_connection_before_the_first_has_ended() -> None:
    async with site() as here:
        client = await here.client()
        await here.put(1, 2)
        await client.gets(1)
        await arrived(client)
        for _ in range(3):
            await client.cut()
            await come_back(client)
        client.vanish()
        await come_back(client)
        await arrived(client)
        await quiet()
        assert client.jobs == [1]
        client.reply(1)
        assert await client.gets(2) == [1, 2]


def beat(here: Site, client: Worker) -> None:
    """Let a client give a sign of life, as its answer to a heartbeat does."""
    hub_of(here.io).deliveries.heartbeat_answered(here.socket_of(client)._channel)


@pytest.mark.parametrize("order", ["strict", "key", "none"])
async def test_an_ack_that_was_lost_with_its_line_holds_a_message_for_one_lease_after_the_return(order: str) -> None:
    async with site(order=order, lease_s=0.3) as here:
        client = await here.client()
        await here.put(1, 2, key="a")
        await until(lambda: 1 in client.jobs)
        await arrived(client)
        before = list(client.jobs)
        # The client acknowledges over a line that is dead, and can't do it again.
        await client.cut()
        await come_back(client)
        client.to_acknowledge.clear()
        client.auto_ack = True
        async with asyncio.timeout(DEADLINE_S):
            while client.jobs == before:
                beat(here, client)
                await asyncio.sleep(0.01)
        await here.settled()
        info = await here.info()
        assert (info.acknowledged, info.dead_letters) == (2, 0)
        assert client.jobs.count(1) == 2


async def test_a_job_that_goes_on_after_the_return_may_ask_for_more_time() -> None:
    async with site(order="none", lease_s=0.1) as here:
        client = await here.client()
        await here.put(1)
        await client.gets(1)
        await arrived(client)
        await client.cut()
        await come_back(client)
        assert here.socket_of(client).extend_lease(QUEUE, seconds=60.0) == 1
        other = await here.client()
        for _ in range(30):
            beat(here, client)
            await asyncio.sleep(0.01)
        assert (client.jobs, other.jobs) == ([1], [])
        client.reply(1)
        await here.settled()


@pytest.mark.parametrize("is_back", [True, False])
async def test_after_the_lease_others_get_it_and_the_old_ack_counts_still(*, is_back: bool) -> None:
    async with site(lease_s=0.1) as here:
        client = await here.client()
        await here.put(1, 2)
        await client.gets(1)
        await arrived(client)
        await client.cut()
        await until_in_flight(here, 0)
        other = None
        if not is_back:
            other = await here.client()
            assert await other.gets(1) == [1]
        await client.connect("default")
        client.reply(1)
        await until_waiting(here, 1)
        newest = client if other is None else other
        await until(lambda: 2 in client.jobs or 2 in newest.jobs)
        if other is not None and any(arguments[1] == 1 for _, arguments in other.to_acknowledge):
            other.reply(1)
        await quiet()
        assert (await here.info()).acknowledged == 1


async def test_a_late_ack_frees_the_hands_that_have_the_message_now() -> None:
    async with site(order="none", lease_s=0.3, prefetch=1) as here:
        client = await here.client()
        await here.put(1)
        await client.gets(1)
        await arrived(client)
        await client.cut()
        # With nobody attached, what served the consumer ends; the next client begins anew.
        await until_in_flight(here, 0)
        other = await here.client()
        assert await other.gets(1) == [1]
        await client.connect("default")
        client.reply(1)
        await quiet()
        info = await here.info()
        assert (info.in_flight, info.acknowledged, info.waiting) == (0, 1, 0)


async def until_in_flight(here: Site, number: int) -> None:
    while (await here.info()).in_flight != number:
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("end", [Worker.cut, lambda client: client.send("1")], ids=["no recovery", "it leaves"])
async def test_what_a_client_had_that_does_not_come_back_goes_to_others_at_once(
    end: Callable[[Worker], object],
) -> None:
    recovers = end is not Worker.cut
    async with site(order="none", server={} if recovers else {"recovery": None}) as here:
        client, other = await here.client(), await here.client()
        await here.put(1)
        await until(lambda: bool(client.jobs or other.jobs))
        holder, idle = (client, other) if client.jobs else (other, client)
        left = end(holder)
        if asyncio.iscoroutine(left):
            await left
        assert await idle.gets(1) == [1]


async def test_a_session_that_expires_leaves_nothing_in_hand() -> None:
    async with site() as here:
        client = await here.client()
        await here.put(1)
        await client.gets(1)
        await client.cut()
        assert (await here.info()).in_flight == 1
        assert client.sid is not None
        await here.io._hub.directory.core("/").ownership.forget_expired(client.sid)
        await until_in_flight(here, 0)


async def test_a_seek_voids_the_acks_of_before() -> None:
    async with site(lease_s=0.05, first_backoff_s=60) as here:
        client = await here.client()
        await here.put(1, 2)
        await client.gets(1)
        await until_in_flight(here, 0)
        await here.queue.get_consumer().seek("oldest")
        await client.gets(2)
        ack_id = client.to_acknowledge[0][0]
        client.acknowledge(ack_id)
        await quiet()
        assert (await here.info()).waiting == 2


async def test_each_of_the_acks_of_a_job_that_outlasts_its_leases_counts_once() -> None:
    async with site(lease_s=0.03, max_failures=100) as here:
        client = await here.client()
        await here.put(1, 2)
        await until(lambda: client.jobs == [1, 1, 1])
        first = client.to_acknowledge[0][0]
        client.acknowledge(first)
        await until_waiting(here, 1)
        for ack_id, arguments in list(client.to_acknowledge)[1:]:
            if arguments[1] == 1:
                client.acknowledge(ack_id)
        await quiet()
        info = await here.info()
        assert (info.acknowledged, info.dead_letters) == (1, 0)


async def test_a_taker_begins_with_one_and_doubles_while_it_is_quick() -> None:
    async with site(order="none", consume={"prefetch": None}, prefetch=8) as here:
        client = await here.client()
        await here.put(*range(40))
        rounds = []
        for _ in range(5):
            await quiet()
            in_hand = [arguments[1] for _, arguments in client.to_acknowledge]
            rounds.append(len(in_hand))
            for job in in_hand:
                client.reply(job)
        assert rounds == [1, 2, 4, 8, 8]


async def test_a_taker_that_needs_more_than_a_quarter_of_a_lease_gets_less() -> None:
    async with site(order="none", consume={"prefetch": None}, prefetch=8, lease_s=0.4) as here:
        client = await here.client()
        await here.put(*range(40))
        for _ in range(4):
            await quiet()
            for job in [arguments[1] for _, arguments in client.to_acknowledge]:
                client.reply(job)
        await quiet()
        assert len(client.to_acknowledge) == 8
        await asyncio.sleep(0.15)
        for job in [arguments[1] for _, arguments in client.to_acknowledge]:
            client.reply(job)
        await quiet()
        assert len(client.to_acknowledge) == 1


async def test_a_named_prefetch_is_there_from_the_beginning() -> None:
    async with site(order="none", consume={"prefetch": 5}) as here:
        client = await here.client()
        await here.put(*range(10))
        await client.gets(5)


async def test_consume_again_keeps_the_acks_of_before() -> None:
    async with site() as here:
        client = await here.client()
        await here.put(1)
        await client.gets(1)
        await here.socket_of(client).consume(QUEUE)
        await client.gets(2)
        client.acknowledge(client.to_acknowledge[0][0])
        await until_waiting(here, 0)


async def test_ack_ids_of_a_session_are_higher_than_all_before_also_after_a_restart(tmp_path: Path) -> None:
    ids: list[int] = []
    for _ in range(3):
        async with site(order="none", server={"store": tmp_path / "store.db"}) as here:
            for _ in range(2):
                client = await here.client()
                await here.put(*range(5))
                await client.gets(5)
                ids += [ack_id for ack_id, _ in client.to_acknowledge]
                for job in range(5):
                    client.reply(job)
                await here.settled()
                client.send("1")
    assert ids == sorted(set(ids))


def test_many_deliveries_share_the_question_whether_they_have_arrived() -> None:
    """In virtual time: a client is asked at most once in 50 ms, however many messages it gets meanwhile."""

    async def asked_in_a_second() -> int:
        async with site(order="none", prefetch=1000) as here:
            client = Asked(here.io)
            client.auto_ack = False
            await client.connect("default")
            for number in range(100):
                await here.put(number)
                await asyncio.sleep(0.01)
            return client.asked

    loop = VirtualLoop()
    try:
        asked = loop.run_until_complete(asked_in_a_second())
    finally:
        loop.close()
    assert 10 < asked <= 21
