"""Leases, stale acks, seeking, pausing, delays and times to live, with official clients and over kills."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from tests.interop.peer import MODES, Client, Peer, Rule
from tests.support.link import Link
from tests.support.raw import RawWebSocket, join, open_websocket
from tests.support.server_process import ServerProcess
from tests.support.waiting import until_async

pytestmark = [pytest.mark.node, pytest.mark.asyncio(loop_scope="module")]

# The server's heartbeats come every 0.25 s: after so many the shortest lease below has long ended.
LEASE_S = 1.5
HEARTBEATS = 7


class Desk:
    """A queue of its own on the module's server, and somebody who may do anything with it."""

    def __init__(self, peer: Peer, server: ServerProcess, clerk: Client, queue: str) -> None:
        self.queue = queue
        self.server = server
        self._peer = peer
        self._clerk = clerk

    async def consumer(
        self, rule: Rule = "ack", mode: str = "websocket", url: str | None = None, **consuming: Any
    ) -> Client:
        """Connect a client that consumes the queue."""
        auth = {"consume": self.queue, "consuming": consuming}
        client = await self._peer.client(
            url or self.server.url, transports=MODES[mode], auth=auth, rules={"job": rule}
        )
        await client.connected()
        return client

    async def put(self, *jobs: Any, **options: Any) -> None:
        for job in jobs:
            await self.do("put", job, options)

    async def do(self, event: str, *args: Any) -> Any:
        """Have the server do something with the queue."""
        [answer] = await self._clerk.call(event, self.queue, *args)
        return answer

    async def sees(self, **numbers: int) -> None:
        """Wait until the consumer's numbers are these."""

        def are_these(seen: dict[str, int]) -> bool:
            return numbers.items() <= seen.items()

        await until_async(lambda: self.do("look"), are_these, f"the consumer's numbers are {numbers}")

    async def kill(self) -> None:
        """Kill the server and start it again."""
        times = len(self._clerk.connects)
        await self.server.restart("kill")
        await self._clerk.connected(times + 1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def queue_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ServerProcess]:
    directory = tmp_path_factory.mktemp("queues")
    store = str(directory / "store.db")
    command = ("-m", "waypost", "serve", "tests.interop.queue_app:io", "--port", "{port}", "--store", store)
    server = ServerProcess(command, directory / "server.log")
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def desk(request: pytest.FixtureRequest, peer: Peer, queue_server: ServerProcess) -> AsyncIterator[Desk]:
    clerk = await peer.client(queue_server.url, transports=["websocket"])
    await clerk.connected()
    yield Desk(peer, queue_server, clerk, request.node.name)
    await peer.leave_all()
    queue_server.check_log()


def jobs(client: Client) -> list[Any]:
    return [args[0] for args in client.args_of("job")]


# -- leases ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["polling", "websocket"])
async def test_heartbeats_renew_a_lease(desk: Desk, mode: str) -> None:
    await desk.do("configure", {"lease_s": LEASE_S})
    client = await desk.consumer("hold", mode)
    await desk.put(0)
    await client.gets("job")
    await client.pinged(client.pings + HEARTBEATS)
    await desk.sees(in_flight=1, retrying=0)
    await client.ack(client.received["job"][0])
    await desk.sees(waiting=0)
    assert jobs(client) == [0]


async def test_a_client_that_says_so_keeps_its_message_for_longer(desk: Desk) -> None:
    await desk.do("configure", {"lease_s": LEASE_S, "max_lease_s": LEASE_S})
    client = await desk.consumer("hold")
    await desk.put(0)
    await client.gets("job")
    assert await client.call("extend", desk.queue, 60) == [1]
    await client.pinged(client.pings + HEARTBEATS)
    await desk.sees(in_flight=1, retrying=0)
    assert jobs(client) == [0]


async def test_a_lease_that_runs_out_is_a_failure_and_the_message_comes_again(desk: Desk, mode: str) -> None:
    await desk.do("configure", {"lease_s": 0.2, "max_lease_s": 0.2, "first_backoff_s": 0, "max_failures": 3})
    client = await desk.consumer("hold", mode)
    await desk.put(0)
    await client.gets("job", 3)
    await desk.sees(dead_letters=1, waiting=0)
    # More than three if the machine is slow: an end without a sign of life is no failure.
    assert set(jobs(client)) == {0}
    assert client.disconnects == []


async def test_a_late_ack_counts_until_the_message_is_handed_out_again(desk: Desk) -> None:
    await desk.do("configure", {"lease_s": 0.2, "max_lease_s": 0.2, "first_backoff_s": 60})
    client = await desk.consumer("hold")
    await desk.put(0, 1)
    await client.gets("job")
    await desk.sees(in_flight=0, retrying=1)
    await client.rule("job", "ack")
    times = len(jobs(client))
    await client.ack(client.received["job"][-1])
    await desk.sees(waiting=0)
    assert jobs(client) == [0] * times + [1]


async def test_a_silent_client_is_passed_over_while_its_connection_stands(desk: Desk) -> None:
    await desk.do("configure", {"lease_s": LEASE_S})
    async with Link.to(desk.server.port) as link:
        silent = await desk.consumer("hold", url=link.url, order="none", prefetch=1)
        await desk.put(0)
        await silent.gets("job")
        link.freeze()
        other = await desk.consumer(order="none", prefetch=1)
        await desk.put(1, 2)
        await other.gets("job", 3)
        await desk.sees(waiting=0, attached=2, dead_letters=0)
    assert sorted(jobs(other)) == [0, 1, 2]


# -- acks that do not count -----------------------------------------------------------------------------------


async def test_an_ack_of_an_earlier_connection_of_the_session_counts(desk: Desk, mode: str) -> None:
    client = await desk.consumer("hold", mode)
    await desk.put(0, 1)
    await client.gets("job")
    # The second heartbeat comes only after the answer to the first: the server knows then that the job has arrived.
    pings = client.pings
    await client.wait_for(lambda: client.pings >= pings + 2, "two heartbeats")
    await client.cut()
    await client.connected(2)
    await client.ack(client.received["job"][0])
    await client.gets("job", 2)
    await client.ack(client.received["job"][1])
    await desk.sees(offset=2, waiting=0)
    assert jobs(client) == [0, 1]


async def test_an_ack_of_the_time_before_a_kill_settles_nothing(desk: Desk, mode: str) -> None:
    client = await desk.consumer("hold", mode)
    await desk.put(0, 1)
    await client.gets("job")
    await desk.kill()
    await client.gets("job", 2)
    stale, valid = client.received["job"]
    await client.ack(stale)
    # The client's own order makes sure that the ack is there by now.
    assert await client.call("extend", desk.queue, 60) == [1]
    await desk.sees(offset=0, waiting=2, in_flight=1)
    await client.rule("job", "ack")
    await client.ack(valid)
    await desk.sees(offset=2, waiting=0)
    assert jobs(client) == [0, 0, 1]


async def test_double_acks_and_acks_of_what_was_never_sent_settle_nothing_else(desk: Desk) -> None:
    await desk.put(0, 1, 2)
    async with open_websocket(desk.server.port) as raw:
        await join(raw, json.dumps({"consume": desk.queue}))
        first = await next_job(raw, 0)
        await raw.send(f"43{first + 1}[]", f"43{first + 1000}[]", f"43{first}[]", f"43{first}[]")
        second = await next_job(raw, 1)
        await raw.send(f"43{first}[]")
        await desk.sees(offset=1, waiting=2, in_flight=1)
        await raw.send(f"43{second}[]", f'43{second}[{{"nack": "changed my mind"}}]')
        third = await next_job(raw, 2)
        await raw.send(f"43{third}[]")
        await desk.sees(offset=3, waiting=0, retrying=0)


async def test_a_final_nack_makes_a_dead_letter_at_once(desk: Desk) -> None:
    client = await desk.consumer("hold")
    await desk.put(0, 1)
    await client.gets("job")
    await client.ack(client.received["job"][0], {"nack": "no such address", "final": True})
    await client.gets("job", 2)
    await client.ack(client.received["job"][1])
    await desk.sees(waiting=0, dead_letters=1)
    assert jobs(client) == [0, 1]


async def next_job(raw: RawWebSocket, job: int) -> int:
    """Return the ack id of the job that comes next."""
    packet = await raw.receive()
    assert isinstance(packet, str)
    ack_id, bracket, rest = packet.removeprefix("42").partition("[")
    assert json.loads(bracket + rest) == ["job", job]
    return int(ack_id)


# -- who is served --------------------------------------------------------------------------------------------


async def test_the_newest_socket_takes_over_and_hands_back(desk: Desk, mode: str) -> None:
    one = await desk.consumer("hold", mode)
    await desk.put(0)
    await one.gets("job")
    two = await desk.consumer("hold", mode)
    await two.gets("job")
    await one.rule("job", "ack")
    await two.away()
    await one.gets("job", 2)
    await desk.put(1)
    await one.gets("job", 3)
    await desk.sees(waiting=0)
    assert (jobs(one), jobs(two)) == ([0, 0, 1], [0])


# -- seek and pause -------------------------------------------------------------------------------------------


async def test_seeks_to_offsets_times_and_both_ends(desk: Desk) -> None:
    await desk.do("keep")
    client = await desk.consumer()
    await desk.put(0, 1, 2)
    await desk.sees(waiting=0)
    between = datetime.now(UTC).isoformat()
    await desk.put(3, 4)
    await desk.sees(waiting=0)
    expected = [0, 1, 2, 3, 4]
    places: list[tuple[str | int, list[int]]] = [("oldest", [0, 1, 2, 3, 4]), (3, [2, 3, 4]), (between, [3, 4])]
    for place, again in places:
        await desk.do("seek", place)
        expected += again
        await client.gets("job", len(expected))
        await desk.sees(waiting=0)
    assert jobs(client) == expected
    await client.rule("job", "hold")
    await desk.do("seek", "oldest")
    await client.gets("job", len(expected) + 1)
    await desk.do("seek", "new")
    await desk.sees(waiting=0, in_flight=0)
    await desk.put(5)
    await client.gets("job", len(expected) + 2)
    assert jobs(client) == [*expected, 0, 5]


async def test_a_seek_voids_what_is_in_hand_and_outlives_a_kill(desk: Desk) -> None:
    await desk.do("keep")
    client = await desk.consumer()
    await desk.put(0, 1)
    await desk.sees(waiting=0)
    await client.rule("job", "hold")
    await desk.put(2)
    await client.gets("job", 3)
    await desk.do("pause", False, None)
    await desk.do("seek", "oldest")
    await client.ack(client.received["job"][2])
    await desk.sees(offset=0, waiting=3, in_flight=0)
    await desk.kill()
    await client.connected(2)
    await desk.sees(offset=0, waiting=3, in_flight=0, attached=1)
    await client.rule("job", "ack")
    await desk.do("resume", False)
    await client.gets("job", 6)
    await desk.sees(waiting=0)
    assert jobs(client) == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("whole", [True, False], ids=["queue", "consumer"])
async def test_a_pause_outlives_a_kill(desk: Desk, whole: bool) -> None:
    client = await desk.consumer()
    await desk.put(0)
    await desk.sees(waiting=0)
    await desk.do("pause", whole, None)
    await desk.put(1)
    await desk.kill()
    await client.connected(2)
    await desk.put(2)
    await desk.sees(waiting=2, in_flight=0, attached=1)
    assert jobs(client) == [0]
    await desk.do("resume", whole)
    await client.gets("job", 3)
    await desk.sees(waiting=0)
    assert jobs(client) == [0, 1, 2]


async def test_a_pause_ends_by_itself_after_a_kill(desk: Desk) -> None:
    pause_s = 0.8
    client = await desk.consumer()
    began = time.monotonic()
    await desk.do("pause", True, pause_s)
    await desk.put(0)
    await desk.kill()
    await client.gets("job")
    assert time.monotonic() - began >= pause_s
    await desk.sees(waiting=0)


# -- time -----------------------------------------------------------------------------------------------------


async def test_delays_and_times_to_live_outlive_a_kill(desk: Desk) -> None:
    delay_s, ttl_s = 1.0, 0.3
    began = time.monotonic()
    await desk.put("late", delay_s=delay_s)
    await desk.put("brief", ttl_s=ttl_s)
    await desk.put("kept", ttl_s=3600)
    await desk.kill()
    await asyncio.sleep(max(0.0, began + ttl_s + 0.1 - time.monotonic()))
    client = await desk.consumer()
    await client.gets("job", 2)
    assert time.monotonic() - began >= delay_s
    await desk.sees(in_flight=0, retrying=0)
    assert jobs(client) == ["kept", "late"]
