"""Calls to a client that goes from server to server: the answer comes back to the server that has called."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

import waypost
from tests.cluster.nodes import Cluster, cluster
from tests.cluster.test_hopping import Diaries, hop, told
from tests.cluster.test_storm import judge, storm
from tests.server.model_client import ModelClient, hub_of, only_channel, until


def silent(nodes: Cluster) -> ModelClient:
    """Return a client that acknowledges nothing by itself."""
    client = nodes.client(0)
    client.auto_ack = False
    return client


async def asked(client: ModelClient, times: int = 1) -> list[tuple[int, Any]]:
    """Wait until a client was asked so often; return the ack ids and the questions."""
    await until(lambda: len(client.to_acknowledge) >= times)
    return [(ack_id, arguments[1:]) for ack_id, arguments in client.to_acknowledge]


def answer(client: ModelClient, ack_id: int, value: Any) -> None:
    client.acknowledge(ack_id, json.dumps([value]))


@pytest.mark.parametrize("way", [[1], [1, 2], [1, 0], [1, 2, 0], [1, 0, 1, 2]])
async def test_a_call_is_sent_again_where_its_client_is(way: list[int]) -> None:
    diaries = Diaries()
    async with cluster(3, diaries.make) as nodes:
        client = silent(nodes)
        await client.connect()
        calling = asyncio.ensure_future(diaries.sockets[0].call("question", {"a": 1}, b"\1"))
        ((ack_id, question),) = await asked(client)
        for number in way:
            client.to_acknowledge.clear()
            await hop(nodes, client, number)
            assert client.recovered
            assert await asked(client) == [(ack_id, question)]
        answer(client, ack_id, "yes")
        assert await calling == "yes"
        # It is answered for all.
        client.to_acknowledge.clear()
        await hop(nodes, client, 0 if way[-1] else 1)
        assert client.to_acknowledge == []


async def test_calls_of_several_servers_never_have_the_same_id() -> None:
    diaries = Diaries()
    async with cluster(3, diaries.make) as nodes:
        client = silent(nodes)
        await client.connect()
        calls: list[asyncio.Future[Any]] = []
        for count, number in enumerate((1, 2, 0, 1, 2), 1):
            calls.append(asyncio.ensure_future(diaries.sockets[-1].call("question", count)))
            await asked(client, count)
            client.to_acknowledge.clear()
            await hop(nodes, client, number)
            ids = await asked(client, count)
            assert [question for _, question in ids] == [[question] for question in range(1, count + 1)]
            assert sorted({ack_id for ack_id, _ in ids}) == [ack_id for ack_id, _ in ids], "in order, each its own"
        for ack_id, (question,) in reversed(await asked(client, len(calls))):
            answer(client, ack_id, question * 10)
        assert await asyncio.gather(*calls) == [10, 20, 30, 40, 50]


async def test_a_call_that_has_timed_out_is_not_sent_again() -> None:
    diaries = Diaries()
    async with cluster(3, diaries.make) as nodes:
        client = silent(nodes)
        await client.connect()
        calling = asyncio.ensure_future(diaries.sockets[0].timeout(2.0).call("question"))
        await asked(client)
        await hop(nodes, client, 1)
        await asked(client, 2)
        with pytest.raises(waypost.AckTimeout):
            await calling
        channel = next(iter(hub_of(nodes.servers[1]).directory.core("/").index))
        await until(lambda: not len(channel.out.acks))
        client.to_acknowledge.clear()
        await hop(nodes, client, 2)
        assert client.to_acknowledge == []


async def test_the_calls_of_a_dead_server_end() -> None:
    diaries = Diaries()
    async with cluster(3, diaries.make) as nodes:
        client = silent(nodes)
        await client.connect()
        dead = asyncio.ensure_future(diaries.sockets[0].call("of the dead"))
        await asked(client)
        await hop(nodes, client, 1)
        living = asyncio.ensure_future(diaries.sockets[1].call("of the living"))
        await asked(client, 3)
        client.to_acknowledge.clear()
        nodes.kill(0)
        await until(lambda: len(hub_of(nodes.servers[1]).services.store.nodes.others) == 1)  # type: ignore[union-attr]
        await hop(nodes, client, 2)
        ((ack_id, _),) = await asked(client)
        answer(client, ack_id, "alive")
        assert await living == "alive"
        dead.cancel()


@pytest.mark.parametrize("then", [0, 2])
async def test_a_call_ends_when_the_server_dies_to_which_its_client_went(then: int) -> None:
    diaries = Diaries()
    async with cluster(3, diaries.make) as nodes:
        client = silent(nodes)
        await client.connect()
        calling = asyncio.ensure_future(diaries.sockets[0].timeout(1000).call("question"))
        await asked(client)
        await hop(nodes, client, 1)
        await asked(client, 2)
        nodes.kill(1)
        await hop(nodes, client, then)
        assert client.recovered
        if then == 0:
            # It is known here still, so it is asked once more.
            ((ack_id, _),) = (await asked(client, 3))[2:]
            answer(client, ack_id, "yes")
            assert await calling == "yes"
            return
        async with asyncio.timeout(30):
            with pytest.raises(waypost.NotConnected):
                await calling


async def test_a_call_goes_on_while_its_client_comes_back_to_the_same_server() -> None:
    diaries = Diaries()
    async with cluster(3, diaries.make) as nodes:
        client = silent(nodes)
        await client.connect()
        calling = asyncio.ensure_future(diaries.sockets[0].call("question"))
        await asked(client)
        for number, times in ((1, 2), (1, 3), (1, 4)):
            await hop(nodes, client, number)
            await asked(client, times)
        ack_id, _ = (await asked(client, 4))[-1]
        answer(client, ack_id, "yes")
        assert await calling == "yes"


@pytest.mark.parametrize("ends", ["client", "server", "time"])
async def test_a_call_ends_with_the_session_wherever_that_is(ends: str) -> None:
    diaries = Diaries(recovery=waypost.Recovery(session_ttl_s=0.05 if ends == "time" else 60))
    async with cluster(2, diaries.make) as nodes:
        client = silent(nodes)
        await client.connect()
        calling = asyncio.ensure_future(diaries.sockets[0].call("question"))
        await asked(client)
        await hop(nodes, client, 1)
        if ends == "client":
            client.send("1")
        elif ends == "server":
            await nodes.servers[0].disconnect_sockets()
        else:
            await client.cut()
            while not calling.done():
                await asyncio.sleep(0.05)
                await hub_of(nodes.servers[1]).keep_up()
        async with asyncio.timeout(30):
            with pytest.raises(waypost.NotConnected):
                await calling


async def test_a_handler_that_waits_for_its_client_goes_on_when_the_client_has_answered_elsewhere() -> None:
    # Nothing here is done because a time of grace is over.
    diaries = Diaries(handler_grace_s=1000)
    async with cluster(2, diaries.make) as nodes:
        client = silent(nodes)
        await client.connect()
        client.send('2["ask",1000]')
        ((ack_id, _),) = await asked(client)
        await hop(nodes, client, 1)
        client.send('2["work",2]')
        # The handlers of the next events wait for the earlier one, as on one server.
        for _ in range(100):
            await asyncio.sleep(0)
        assert diaries.told == [*told((0, "connect")), (0, "ask"), *told((0, "disconnect"), (1, "connect"))]
        answer(client, ack_id, "yes")
        await until(lambda: (1, "2.") in diaries.told)
        assert diaries.answers == ["yes"]
        assert diaries.told[-3:] == [(0, "ask."), *told((1, "2"))]
        # What it has noted of the client is there too.
        assert await client.call("remember", "answer", "no") == [["yes"]]


async def test_a_handler_that_waits_goes_along_through_several_servers() -> None:
    # Nothing here is done because a time of grace is over.
    diaries = Diaries(handler_grace_s=1000)
    async with cluster(3, diaries.make) as nodes:
        client = silent(nodes)
        await client.connect()
        client.send('2["ask",1000]')
        ((ack_id, _),) = await asked(client)
        for number in (1, 2, 0, 1):
            await hop(nodes, client, number)
        client.send('2["work",2]')
        for _ in range(100):
            await asyncio.sleep(0)
        assert (1, "2") not in diaries.told
        answer(client, ack_id, "yes")
        await until(lambda: (1, "2.") in diaries.told)
        assert diaries.answers == ["yes"]
        assert diaries.told[-3:] == [(0, "ask."), *told((1, "2"))]


async def test_a_server_that_dies_with_a_handler_that_waits_holds_nothing_up() -> None:
    diaries = Diaries(handler_grace_s=0.1)
    async with cluster(2, diaries.make) as nodes:
        client = silent(nodes)
        await client.connect()
        client.send('2["ask",1]')
        await asked(client)
        await hop(nodes, client, 1)
        client.send('2["work",2]')
        nodes.kill(0)
        await until(lambda: (1, "2.") in diaries.told)


async def test_a_call_goes_along_when_a_client_comes_back_to_a_server_that_was_just_asked_for_it() -> None:
    """Found by a storm: the session's home took its client back, and dropped what it had just handed over."""
    for seed in (282, 29, 3021):
        judge(await storm(random.Random(seed), faults=False))


async def test_a_heartbeat_at_a_server_that_has_lost_its_store_harms_nobody() -> None:
    async with cluster(2, ping_interval_s=0.05, ping_timeout_s=30) as nodes:
        client = nodes.client(0)
        await client.connect()
        client.vanish()
        channel = only_channel(nodes.servers[0])
        session = channel.session
        assert session is not None
        await until(lambda: session._marked is not None)
        nodes.kill(0)
        journal = session._journal
        with pytest.raises(waypost.StorageError):
            await journal.find_session(session.key)
        assert client.connection is not None
        assert session._marked is not None
        client.connection.receive("3")
        assert client.connection.is_open
