"""Clients with an outbox that go from one server to another while an event is in hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

import waypost
from tests.server.model_client import until
from tests.server.test_repeats import OURS, Sender
from tests.support.nodes import Nodes, servers


class Site:
    """Three servers on one store.

    Attributes:
        nodes: The host of the store.
        servers: The servers.
        runs: The server and the number of each event whose handler was called.
        may_end: Lets handlers end.
        failing: The servers whose handlers fail.
    """

    def __init__(self) -> None:
        self.nodes: Nodes
        self.servers: list[waypost.Server] = []
        self.runs: list[tuple[int, int]] = []
        self.may_end = asyncio.Event()
        self.failing: set[int] = set()
        self._time = 0.0

    def prepare(self, io: waypost.Server) -> None:
        number = len(self.servers)
        self.servers.append(io)

        @io.event
        async def order(socket: waypost.Socket, n: int) -> Any:
            self.runs.append((number, n))
            await self.may_end.wait()
            if number in self.failing:
                raise waypost.Reject("not now", retry_in_s=60)
            return number

    async def connect(self, number: int) -> Sender:
        client = Sender(self.servers[number])
        self._time += 1
        client.handshake = replace(OURS, time=self._time)
        await client.connect()
        return client


@pytest.fixture(params=["journal", "no journal"])
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    site = Site()
    options = {"recovery": None} if request.param == "no journal" else {}
    async with servers(3, prepare=site.prepare, drain_s=0.0, **options) as (nodes, _):
        site.nodes = nodes
        yield site
        site.may_end.set()
        for link in nodes.links.values():
            link.resume()


async def put_and_wait(site: Site, client: Sender, sequence: int) -> int:
    before = len(site.runs)
    ack_id = client.put(sequence, "order", sequence)
    await until(lambda: len(site.runs) > before)
    return ack_id


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_a_repeat_waits_for_the_other_server_s_answer(site: Site) -> None:
    first = await site.connect(0)
    await put_and_wait(site, first, 1)
    first.put(2, "order", 2)
    await first.cut()
    second = await site.connect(1)
    asked = [second.put(1, "order", 1), second.put(2, "order", 2)]
    await settle()
    assert site.runs == [(0, 1)]
    site.may_end.set()
    assert [await second.answer_to(ack_id) for ack_id in asked] == [[0], [1]]
    assert site.runs == [(0, 1), (1, 2)]


async def test_what_was_not_begun_with_is_left_to_the_other_server(
    site: Site,
) -> None:
    half_open = await site.connect(0)
    await put_and_wait(site, half_open, 1)
    for n in (2, 3):
        half_open.put(n, "order", n)
    client = await site.connect(1)
    asked = [client.put(n, "order", n, settled=0) for n in (1, 2, 3)]
    site.may_end.set()
    assert [await client.answer_to(ack_id) for ack_id in asked] == [[0], [1], [1]]
    await settle()
    assert site.runs == [(0, 1), (1, 2), (1, 3)]


async def test_a_client_goes_on_twice_and_comes_back(site: Site) -> None:
    clients = [await site.connect(0)]
    await put_and_wait(site, clients[0], 1)
    for number in (1, 2, 1, 2, 0):
        await clients[-1].cut()
        clients.append(await site.connect(number))
        clients[-1].put(1, "order", 1)
        clients[-1].put(2, "order", 2)
        await settle()
    assert site.runs == [(0, 1)]
    site.may_end.set()
    assert await clients[-1].ask(1, "order", 1) == [0]
    assert await clients[-1].ask(2, "order", 2) == [0]
    assert site.runs == [(0, 1), (0, 2)]


async def test_an_event_of_a_server_that_dies_is_handled_by_the_next(site: Site) -> None:
    first = await site.connect(0)
    await put_and_wait(site, first, 1)
    second = await site.connect(1)
    ack_id = second.put(1, "order", 1)
    await settle()
    assert site.runs == [(0, 1)]
    site.nodes.kill("n0")
    await until(lambda: site.runs == [(0, 1), (1, 1)])
    site.may_end.set()
    assert await second.answer_to(ack_id) == [1]


async def test_a_server_that_dies_before_it_answers_is_not_waited_for(site: Site) -> None:
    site.nodes.links["n0"].pause()
    client = await site.connect(1)
    ack_id = client.put(1, "order", 1)
    await settle()
    assert not site.runs
    site.nodes.kill("n0")
    site.may_end.set()
    assert await client.answer_to(ack_id) == [1]


async def test_a_server_that_never_answers_is_waited_for_no_longer(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("waypost.server.events.moves._PATIENCE_S", 0.02)
    site.nodes.links["n0"].pause()
    site.may_end.set()
    client = await site.connect(1)
    assert await client.ask(1, "order", 1) == [1]
    assert "do not say what they have of a client: n0" in caplog.text


async def test_what_failed_elsewhere_holds_the_later_ones_back(site: Site) -> None:
    site.failing.add(0)
    site.may_end.set()
    first = await site.connect(0)
    await first.rejection(1, "order", 1)
    await first.cut()
    second = await site.connect(1)
    assert (await second.rejection(2, "order", 2)).reason == ""
    assert site.runs == [(0, 1)]
    assert await second.ask(1, "order", 1) == [1]
    assert await second.ask(2, "order", 2) == [1]
    assert site.runs == [(0, 1), (1, 1), (1, 2)]


async def test_what_fails_elsewhere_after_its_client_has_gone_is_handled_here(site: Site) -> None:
    site.failing.add(0)
    first = await site.connect(0)
    await put_and_wait(site, first, 1)
    await first.cut()
    second = await site.connect(1)
    asked = [second.put(1, "order", 1), second.put(2, "order", 2)]
    await settle()
    site.may_end.set()
    assert [await second.answer_to(ack_id) for ack_id in asked] == [[1], [1]]
    assert site.runs == [(0, 1), (1, 1), (1, 2)]
    # The first server holds nothing back any more.
    third = await site.connect(0)
    site.failing.clear()
    assert await third.ask(3, "order", 3) == [0]


async def test_what_fails_elsewhere_after_its_client_has_gone_holds_the_later_ones_back(site: Site) -> None:
    site.failing.add(0)
    first = await site.connect(0)
    await put_and_wait(site, first, 1)
    await first.cut()
    second = await site.connect(1)
    second.put(1, "order", 1)
    await settle()
    await second.cut()
    site.may_end.set()
    await settle()
    third = await site.connect(1)
    assert (await third.rejection(2, "order", 2)).reason == ""
    assert site.runs == [(0, 1)]
    assert await third.ask(1, "order", 1) == [1]
    assert await third.ask(2, "order", 2) == [1]


async def test_a_connection_that_comes_late_does_not_take_the_place_of_a_later_one(site: Site) -> None:
    early = await site.connect(0)
    late = await site.connect(1)
    site.may_end.set()
    assert await late.ask(1, "order", 1) == [1]
    early.put(1, "order", 1)
    await until(lambda: early.connection is not None and not early.connection.is_open)
    assert await late.ask(2, "order", 2) == [1]
    assert site.runs == [(1, 1), (1, 2)]
