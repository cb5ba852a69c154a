"""Servers on one PostgreSQL database: messages between them, and requests that reach the wrong one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
import pytest_asyncio

import waypost
from tests.server.model_client import hub_of
from tests.support.raw import join, open_polling, request, target
from tests.support.waiting import until, until_async

pytestmark = [pytest.mark.long, pytest.mark.timeout(120)]


@dataclass(frozen=True)
class Site:
    """A server that is served.

    Attributes:
        io: The server.
        url: Where it listens.
    """

    io: waypost.Server
    url: str

    @property
    def others(self) -> int:
        """How many other servers it knows."""
        nodes = hub_of(self.io).services.store.nodes
        return 0 if nodes is None else len(nodes.others)


async def _consume(socket: waypost.Socket) -> None:
    await socket.consume("jobs", order="none", prefetch=1)


async def _join(socket: waypost.Socket, room: str) -> None:
    await socket.join(room)


@pytest_asyncio.fixture
async def sites(postgres_url: str) -> AsyncIterator[list[Site]]:
    """Three servers, which know each other."""
    async with AsyncExitStack() as stack:
        served = []
        for number in range(3):
            io = waypost.Server(store=postgres_url, drain_s=0.0)
            io.on("who", lambda socket, number=number: number)
            io.on("consume", _consume)
            io.on("join", _join)
            io.on_server_side("add", lambda a, b: a + b)
            site = await stack.enter_async_context(waypost.testing.serve(io))
            served.append(Site(io, site.url))
        await until(lambda: [one.others for one in served] == [2, 2, 2], "all are known")
        yield served


def port(site: Site) -> int:
    """Return where a site listens."""
    return int(site.url.rpartition(":")[2])


async def test_a_session_is_served_wherever_its_requests_arrive(sites: list[Site]) -> None:
    async with open_polling(port(sites[0])) as raw:
        number = int(raw.sid.rpartition(".")[2])
        raw.port = port(sites[1])
        await join(raw)
        await raw.send('421["who"]')
        raw.port = port(sites[2])
        assert await raw.receive() == "431[0]"
        refused = await request(port(sites[1]), "GET", target(sid=f"{raw.sid.rpartition('.')[0]}.{number + 1000}"))
        assert (refused.status, refused.code) == (400, 1)
    assert sites[1].io.state().counters.forwarded >= 1


async def test_servers_ask_each_other(sites: list[Site]) -> None:
    answers = await sites[0].io.server_side_call("add", 1, 2)
    assert sorted(answers.answers.values()) == [3, 3]
    assert answers.is_complete


async def test_sockets_of_all_servers_are_found_after_they_have_joined(sites: list[Site]) -> None:
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(waypost.Client(site.url)) for site in sites]
        for client in clients:
            await client.call("join", "drivers")
        for site in sites:
            found = await site.io.to("drivers").fetch_sockets()
            assert len(found) == 3
        await sites[0].io.to("drivers").sockets_join("late")
        found = await sites[0].io.to("late").fetch_sockets()
        assert len(found) == 3


async def test_a_volatile_event_comes_after_the_event_before_it_everywhere(sites: list[Site]) -> None:
    async with AsyncExitStack() as stack:
        heard: list[list[str]] = []
        for site in sites:
            client = await stack.enter_async_context(waypost.Client(site.url))
            mine: list[str] = []
            client.on("stored", lambda n, mine=mine: mine.append(f"stored {n}"))
            client.on("volatile", lambda n, mine=mine: mine.append(f"volatile {n}"))
            heard.append(mine)
        for number in range(20):
            await sites[0].io.emit("stored", number)
            await sites[0].io.volatile.emit("volatile", number)
        expected = [f"{kind} {number}" for number in range(20) for kind in ("stored", "volatile")]
        for mine in heard:
            await until(lambda mine=mine: len(mine) == 40, f"all came: {mine}")  # type: ignore[misc]
            kept = [one for one in mine if one.startswith("stored")]
            assert kept == expected[::2]
            for number in range(20):
                assert mine.index(f"volatile {number}") > mine.index(f"stored {number}")


async def test_a_call_to_all_is_answered_by_clients_of_all_servers(sites: list[Site]) -> None:
    async with AsyncExitStack() as stack:
        for number, site in enumerate(sites):
            client = waypost.Client(site.url)
            client.on("ask", lambda number=number: number)
            await stack.enter_async_context(client)
        answers = await until_async(
            lambda: sites[1].io.timeout(5).call("ask"), lambda found: len(found.answers) == 3, "all answer"
        )
        assert sorted(answers.answers.values()) == [0, 1, 2]


async def test_sockets_on_all_servers_take_the_messages_of_one_consumer(sites: list[Site]) -> None:
    async with AsyncExitStack() as stack:
        got: list[int] = []
        at: set[int] = set()
        for number, site in enumerate(sites):
            client = waypost.Client(site.url)

            async def take(job: int, number: int = number) -> None:
                # As long as one takes it, others have room.
                await asyncio.sleep(0.01)
                got.append(job)
                at.add(number)

            client.on("job", take)
            await stack.enter_async_context(client)
            await client.call("consume")
        for job in range(60):
            await sites[job % 3].io.queue("jobs").emit("job", job)
        await until(lambda: len(got) >= 60, "all are taken")
        assert sorted(got) == [*range(60)]
        assert at == {0, 1, 2}
