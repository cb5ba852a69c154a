"""Queues with the official client: what waited comes, and comes again until it is acknowledged."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.interop.peer import MODES, Client, Peer, Rule
from tests.support.server_process import ServerProcess
from tests.support.waiting import until_async

pytestmark = [pytest.mark.node, pytest.mark.asyncio(loop_scope="module")]


class Inbox:
    """A queue of its own on the module's server, its producer and its consumers."""

    def __init__(self, peer: Peer, server: ServerProcess, producer: Client, queue: str) -> None:
        self._peer = peer
        self._server = server
        self._producer = producer
        self._queue = queue

    async def consumer(self, mode: str = "websocket", rule: Rule = "ack", **consuming: Any) -> Client:
        """Connect a client that consumes the queue."""
        auth = {"consume": [self._queue], "consuming": consuming}
        client = await self._peer.client(self._server.url, transports=MODES[mode], auth=auth, rules={"job": rule})
        await client.connected()
        return client

    async def put(self, *jobs: Any) -> None:
        """Enqueue messages; each is on disk before the next."""
        for job in jobs:
            await self._producer.call("enqueue", self._queue, None, job)

    async def put_at_once(self, *jobs: tuple[Any, str | None]) -> None:
        """Enqueue jobs, each with its key, in one commit."""
        await self._producer.call("enqueue_many", self._queue, jobs)

    async def ask(self, event: str) -> Any:
        """Ask the server something of the queue."""
        [answer] = await self._producer.call(event, self._queue)
        return answer

    async def put_with_id(self, message_id: str, job: Any) -> str:
        """Enqueue a message under an id of our choice; return what the server calls it."""
        [accepted] = await self._producer.call("enqueue", self._queue, message_id, job)
        return str(accepted)

    async def settled(self) -> None:
        """Wait until every message is acknowledged, and that is on disk."""
        await until_async(
            lambda: self._producer.call("waiting", self._queue), lambda waiting: waiting == [0], "all is settled"
        )

    async def restart(self, how: str) -> None:
        """End the server and start it again; the producer is back, too."""
        times = len(self._producer.connects)
        await self._server.restart(how)
        await self._producer.connected(times + 1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def queue_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ServerProcess]:
    """One server for the whole module, with an SQLite store; each test has a queue of its own, and may restart it."""
    directory = tmp_path_factory.mktemp("queues")
    options = {"drain_s": 0.2, "ping_interval_s": 2, "ping_timeout_s": 3}
    server = ServerProcess.waypost(directory / "server.log", str(directory / "store.db"), options)
    await server.start()
    yield server
    await server.stop()
    server.check_log()


@pytest_asyncio.fixture(loop_scope="module")
async def inbox(request: pytest.FixtureRequest, peer: Peer, queue_server: ServerProcess) -> AsyncIterator[Inbox]:
    producer = await peer.client(queue_server.url)
    await producer.connected()
    yield Inbox(peer, queue_server, producer, request.node.name)
    await peer.leave_all()
    queue_server.check_log()


def jobs(client: Client) -> list[Any]:
    """Return the first argument of each job it was given."""
    return [args[0] for args in client.args_of("job")]


async def test_what_waited_comes_and_then_what_is_new(inbox: Inbox, mode: str) -> None:
    await inbox.put(0, 1, 2)
    client = await inbox.consumer(mode)
    await client.gets("job", 3)
    await inbox.put(3, {"four": b"\x04"}, 5)
    await client.gets("job", 6)
    assert jobs(client) == [0, 1, 2, 3, {"four": b"\x04"}, 5]
    assert all(received.token is not None for received in client.received["job"])
    await inbox.settled()


async def test_acknowledged_is_gone(inbox: Inbox, mode: str) -> None:
    await inbox.put(0, 1)
    client = await inbox.consumer(mode)
    await client.gets("job", 2)
    await inbox.settled()
    await client.disconnect()
    await inbox.put(2)
    late = await inbox.consumer(mode)
    await late.gets("job")
    await inbox.put(3)
    await late.gets("job", 2)
    assert jobs(late) == [2, 3]


@pytest.mark.parametrize("how", ["away", "stop", "kill"])
async def test_not_acknowledged_comes_again(inbox: Inbox, mode: str, how: str) -> None:
    client = await inbox.consumer(mode, rule="hold")
    await inbox.put(0)
    await client.gets("job")
    await client.rule("job", "ack")
    if how == "away":
        await client.away()
        await client.resume()
    else:
        await inbox.restart(how)
    await client.connected(2)
    await inbox.put(1)
    await client.gets("job", 3)
    assert jobs(client) == [0, 0, 1]
    await inbox.settled()


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_only_what_was_not_acknowledged_comes_again(inbox: Inbox, mode: str, how: str) -> None:
    client = await inbox.consumer(mode)
    await inbox.put(0, 1, 2)
    await client.gets("job", 3)
    await inbox.settled()
    await client.rule("job", "hold")
    await inbox.put(3)
    await client.gets("job", 4)
    await client.rule("job", "ack")
    await inbox.restart(how)
    await client.gets("job", 5)
    await inbox.put(4)
    await client.gets("job", 6)
    assert jobs(client) == [0, 1, 2, 3, 3, 4]
    await inbox.settled()


async def test_a_late_ack_counts(inbox: Inbox, mode: str) -> None:
    client = await inbox.consumer(mode, rule="hold")
    await inbox.put("slow")
    await client.gets("job")
    await client.ack(client.received["job"][0])
    await inbox.settled()
    assert jobs(client) == ["slow"]


async def test_two_sockets_share_a_consumer(inbox: Inbox, mode: str) -> None:
    one, two = await inbox.consumer(mode), await inbox.consumer(mode)
    await inbox.put(*range(20))
    await inbox.settled()
    assert sorted(jobs(one) + jobs(two)) == list(range(20))


async def test_the_other_socket_takes_over(inbox: Inbox, mode: str) -> None:
    one = await inbox.consumer(mode, rule="hold")
    await inbox.put(0)
    await one.gets("job")
    two = await inbox.consumer(mode)
    await one.away()
    await two.gets("job")
    await inbox.put(1)
    await two.gets("job", 2)
    assert jobs(two) == [0, 1]


async def test_the_same_id_is_accepted_once(inbox: Inbox) -> None:
    first = await inbox.put_with_id("parcel-1", "first")
    assert await inbox.put_with_id("parcel-1", "again") == first
    await inbox.restart("kill")
    assert await inbox.put_with_id("parcel-1", "and again") == first
    await inbox.put("other")
    client = await inbox.consumer()
    await client.gets("job", 2)
    assert jobs(client) == ["first", "other"]


async def test_workers_compete_and_what_one_that_leaves_had_goes_to_the_others(inbox: Inbox) -> None:
    slow = await inbox.consumer(rule="hold", order="none", prefetch=5)
    quick = await inbox.consumer("polling", order="none", prefetch=5)
    await inbox.put_at_once(*((number, None) for number in range(40)))
    await slow.gets("job", 5)
    await quick.gets("job", 35)
    assert sorted(jobs(slow) + jobs(quick)) == list(range(40))
    await slow.disconnect()
    await quick.gets("job", 40)
    await inbox.settled()
    assert sorted(jobs(quick)) == list(range(40))


async def test_only_the_same_key_waits(inbox: Inbox) -> None:
    client = await inbox.consumer(rule="hold", order="key", prefetch=8)
    await inbox.put_at_once(("a1", "a"), ("a2", "a"), ("b1", "b"))
    await client.gets("job", 2)
    assert jobs(client) == ["a1", "b1"]
    await client.ack(client.received["job"][0])
    await client.gets("job", 3)
    assert jobs(client) == ["a1", "b1", "a2"]


async def test_rejected_comes_again_when_it_was_asked_for(inbox: Inbox) -> None:
    client = await inbox.consumer(rule="hold")
    await inbox.put(0, 1)
    await client.gets("job")
    await client.rule("job", "ack")
    rejected = client.received["job"][0]
    await client.ack(rejected, {"nack": "busy", "retry_in": 0.3})
    await client.gets("job", 3)
    assert jobs(client) == [0, 0, 1]
    assert client.received["job"][1].t_ms - rejected.t_ms >= 300
    await inbox.settled()


async def test_what_is_rejected_too_often_is_put_aside_and_can_be_redriven(inbox: Inbox) -> None:
    client = await inbox.consumer(rule=[{"nack": "broken", "retry_in": 0}])
    await inbox.put("poison")
    await client.gets("job", 20)
    await inbox.settled()
    await client.rule("job", "ack")
    await inbox.put("good")
    await client.gets("job", 21)
    await inbox.settled()
    await inbox.restart("kill")
    assert await inbox.ask("dead_letters") == [["poison", "broken", 20]]
    assert await inbox.ask("redrive") == 1
    await client.gets("job", 22)
    assert jobs(client) == ["poison"] * 20 + ["good", "poison"]
    await inbox.settled()
    assert await inbox.ask("dead_letters") == []


@pytest.mark.parametrize("order", ["key", "none"])
async def test_nothing_is_lost_in_any_order(inbox: Inbox, order: str, rng: random.Random) -> None:
    clients = [await inbox.consumer(order=order, prefetch=8) for _ in range(3)]
    total = 90
    await inbox.put_at_once(*((number, f"k{number % 5}") for number in range(total // 2)))
    for _ in range(2):
        await rng.choice(clients).cut(rng.choice(["close", "reset"]))
    await inbox.restart("kill")
    await inbox.put_at_once(*((number, f"k{number % 5}") for number in range(total // 2, total)))
    await inbox.settled()
    got = [(received.t_ms, received.args[0]) for client in clients for received in client.received["job"]]
    assert {job for _, job in got} == set(range(total))
    if order == "key":
        for key in range(5):
            mine = list(dict.fromkeys(job for _, job in sorted(got) if job % 5 == key))
            assert mine == sorted(mine)


async def test_nothing_is_lost_whatever_happens(inbox: Inbox, mode: str, rng: random.Random) -> None:
    client = await inbox.consumer(mode)
    total = 60
    producing = asyncio.create_task(inbox.put(*range(total // 2)))
    for step in range(3):
        await client.gets("job", len(client.received["job"]) + rng.randrange(3, 8))
        await client.cut(rng.choice(["close", "reset"]))
        await client.connected(step + 2)
    await producing
    await inbox.restart("kill")
    await inbox.put(*range(total // 2, total))
    await inbox.settled()
    first_time = list(dict.fromkeys(jobs(client)))
    assert first_time == list(range(total))
    assert_redelivered_in_order(jobs(client))


def assert_redelivered_in_order(got: list[int]) -> None:
    """Fail if the client was taken back by more than what it had not acknowledged, or past a gap."""
    for before, after in itertools.pairwise(got):
        assert after <= before + 1, f"{after} came right after {before}"
