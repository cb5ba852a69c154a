"""A worker whose event loop stands still, and workers that are killed again and again: others serve meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

import waypost
from tests.support.waiting import until
from tests.workers.test_serving import Site, of_each

pytestmark = [pytest.mark.asyncio, pytest.mark.long]


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    made = Site(tmp_path)
    yield made
    await made.server.kill()


async def test_others_accept_the_clients_of_a_worker_that_stands_still(site: Site) -> None:
    server = site.process()
    await server.start()
    clients = await of_each(site)
    stopped, other = clients
    os.kill(stopped, signal.SIGSTOP)
    try:
        await until(lambda: "its event loop has stood still" in server.log(), "the parent notices")
        found: list[waypost.Client] = []
        for _ in range(16):
            # Without the others, about half of them would wait in the listening socket of the one that stands still.
            found.append(await asyncio.wait_for(site.connect(transports=["websocket"]), 20))
            assert (await found[-1].call("where"))[0] == other
    finally:
        os.kill(stopped, signal.SIGCONT)
    await until(lambda: "its event loop runs again" in server.log(), "it is noticed again")
    assert set(await of_each(site)) == {stopped, other}
    await server.stop()


async def test_others_serve_the_consumers_of_a_worker_that_stands_still(site: Site) -> None:
    server = site.process()
    await server.start()
    clients = await of_each(site)
    (stopped, first), (_, other) = clients.items()
    got: dict[waypost.Client, list[int]] = {first: [], other: []}
    for client, jobs in got.items():
        client.on("job", jobs.append)
        # The worker of the first one owns the consumer.
        await client.call("work")
    for job in range(20):
        await other.call("put", job)
    await until(lambda: len(got[first]) + len(got[other]) == 20, "both work")
    assert got[first]
    assert got[other]
    os.kill(stopped, signal.SIGSTOP)
    try:
        for job in range(20, 40):
            await other.call("put", job)
        # What has just been given to the client of the other one may have to wait for its lease.
        await until(lambda: len(set(got[other]) & set(range(20, 40))) >= 10, "the other one goes on", 25)
    finally:
        os.kill(stopped, signal.SIGCONT)
    await until(lambda: set(got[first]) | set(got[other]) == set(range(40)), "all were done", 60)
    for job in range(40, 60):
        await other.call("put", job)
    await until(lambda: set(range(40, 60)) <= {*got[first], *got[other]}, "both go on")
    await server.stop()
    server.check_log()


async def test_a_worker_that_stands_still_does_not_hold_up_a_stop_for_ever(site: Site) -> None:
    server = site.process()
    await server.start()
    stopped, other = site.pids()
    os.kill(stopped, signal.SIGSTOP)
    os.kill(server.pid, signal.SIGTERM)
    assert await site.end() == 0
    assert "it is killed" in server.log()
    await site.none_left([stopped, other])


async def test_the_service_is_back_soon_however_often_all_are_killed(site: Site) -> None:
    server = site.process()
    await server.start()
    client = await site.connect(transports=["websocket"])
    for _ in range(4):
        pid = (await client.call("where"))[0]
        # Long enough to have served, so that this is no mistake of the application's.
        await asyncio.sleep(1.2)
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(60):
            while True:
                try:
                    await client.call("where")
                    break
                except waypost.WaypostError:
                    await asyncio.sleep(0.1)
    pauses = [
        line.split("another one is started in ")[1] for line in server.log().splitlines() if "is started in" in line
    ]
    assert pauses
    assert all(float(pause.split()[0]) <= 1.1 for pause in pauses), pauses
    await server.stop()
