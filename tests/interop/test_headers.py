"""Headers on the wire: Waypost's own clients see them, with id and attempt; official ones get the arguments alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import waypost
from tests.interop.peer import MODES, Peer
from tests.support.server_process import ServerProcess

pytestmark = [pytest.mark.node, pytest.mark.asyncio(loop_scope="module")]

HEADERS = {"tenant": "7", "traceparent": "00-4bf9-00f0-01"}


@pytest_asyncio.fixture(loop_scope="module")
async def server(peer: Peer, tmp_path: Path) -> AsyncIterator[ServerProcess]:
    command = ("-m", "waypost", "serve", "tests.interop.queue_app:io", "--port", "{port}")
    made = ServerProcess((*command, "--store", str(tmp_path / "store.db")), tmp_path / "server.log")
    await made.start()
    yield made
    await peer.leave_all()
    await made.stop()
    made.check_log()


async def put(server: ServerProcess, *jobs: Any, **options: Any) -> None:
    async with waypost.Client(server.url) as clerk:
        for job in jobs:
            await clerk.call("put", "jobs", job, options)


async def test_official_clients_get_the_arguments_alone(peer: Peer, server: ServerProcess, mode: str) -> None:
    client = await peer.client(server.url, transports=MODES[mode], auth={"consume": "jobs"}, rules={"job": "ack"})
    await client.connected()
    await put(server, {"n": 1}, headers=HEADERS)
    await client.gets("job")
    assert [[*args] for args in client.args_of("job")] == [[{"n": 1}]]


async def test_a_browsers_client_that_asks_for_it_gets_them_as_one_more_argument(
    peer: Peer, server: ServerProcess
) -> None:
    auth = {"consume": "jobs", "_waypost": {"revision": 2}}
    client = await peer.client(server.url, transports=MODES["websocket"], auth=auth, rules={"job": "ack"})
    await client.connected()
    await put(server, "a", headers=HEADERS, id="m1")
    await client.gets("job")
    [[job, mark]] = client.args_of("job")
    assert job == "a"
    assert list(mark) == ["_waypost"]
    assert (mark["_waypost"]["id"], mark["_waypost"]["attempt"], mark["_waypost"]["headers"]) == ("m1", 1, HEADERS)
    # The application never sees what the client and the server agree upon.
    assert await client.call("auth") == [["consume"]]


async def test_waypost_clients_see_id_attempt_time_and_headers(server: ServerProcess) -> None:
    seen: asyncio.Queue[tuple[Any, waypost.ReceivedMessage | None]] = asyncio.Queue()
    client = waypost.Client(server.url, auth={"consume": "jobs"})
    other = client.of("/other")

    @client.on("job")
    async def work(job: Any) -> None:
        assert other.message is None
        await seen.put((job, client.message))
        if client.message is not None and client.message.attempt == 1:
            raise waypost.Reject("once more", retry_in_s=0)

    @client.on("plain")
    async def plain() -> None:
        await seen.put(("plain", client.message))

    await client.connect()
    assert client.message is None
    await put(server, "a", headers=HEADERS, id="m1")
    for attempt in (1, 2):
        job, message = await asyncio.wait_for(seen.get(), 30)
        assert job == "a"
        assert message is not None
        assert message.enqueued_at is not None
        assert abs((datetime.now(UTC) - message.enqueued_at).total_seconds()) < 600
        assert (message.queue, message.consumer, message.id, message.offset) == ("jobs", "default", "m1", 1)
        assert (message.attempt, message.headers) == (attempt, HEADERS)
    await client.call("send_plain")
    assert await asyncio.wait_for(seen.get(), 30) == ("plain", None)
    await client.disconnect()


async def test_loops_over_events_see_them_too(server: ServerProcess) -> None:
    async with waypost.Client(server.url, auth={"consume": "jobs"}) as client, client.events("job") as jobs:
        await put(server, "a", headers=HEADERS)
        event = await asyncio.wait_for(anext(jobs), 30)
        assert event.message is not None
        assert (event.args, event.message.headers) == (("a",), HEADERS)
        await event.ack()


async def test_clients_without_asyncio_see_them(server: ServerProcess) -> None:
    seen: list[tuple[Any, ...]] = []

    def play() -> None:
        with waypost.sync.Client(server.url, auth={"consume": "jobs"}) as client:

            @client.on("job")
            def work(job: Any) -> None:
                assert client.message is not None
                seen.append((job, client.message.attempt, client.message.headers))

            client.call("put", "jobs", "a", {"headers": HEADERS})
            with client.events("job") as jobs:
                client.call("put", "jobs", "b", {"headers": HEADERS})
                event = jobs.next(30)
                assert event.message is not None
                seen.append((event.name, event.message.id != "", event.message.headers))

    await asyncio.to_thread(play)
    assert ("a", 1, HEADERS) in seen
    assert ("job", True, HEADERS) in seen
