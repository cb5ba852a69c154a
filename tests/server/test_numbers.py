"""The numbers of several servers, and the limits for one address over all of them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

import waypost
from tests.server.model_client import HANDSHAKE, ModelClient, hub_of, running, until
from tests.support.nodes import Nodes, join, servers
from tests.support.waiting import until_async
from waypost.protocol.revision import Revision4
from waypost.server.connections.site_counts import SiteCounts
from waypost.server.watching.counters import Counters, add_counters, raise_counters

STRANGER = replace(HANDSHAKE, address="198.51.100.7")


OPTIONS: dict[str, Any] = {
    "drain_s": 0.0,
    "max_connections_per_address": 3,
    "max_handshakes_per_address": 2,
    "max_child_namespaces_per_address": 2,
    "recovery": waypost.Recovery(max_away_per_address=2),
}


class Pair(NamedTuple):
    nodes: Nodes
    one: waypost.Server
    two: waypost.Server


@pytest.fixture
async def pair(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    monkeypatch.setattr("waypost.server.namespaces.numbers._INTERVAL_S", 0.005)
    async with servers(2, **OPTIONS) as (nodes, (one, two)):
        yield Pair(nodes, one, two)


async def connect(io: waypost.Server, namespace: str = "/") -> ModelClient:
    client = ModelClient(io, namespace, handshake=STRANGER)
    await client.connect()
    return client


def has(io: waypost.Server, connections: int) -> bool:
    return io.state().connections == connections


async def shown(io: waypost.Server) -> dict[str, Any]:
    """Return what a server says of all, and of each."""
    state = io.state()
    return {
        "connections": state.connections,
        "sockets": state.sockets,
        "slow clients": state.counters.slow_clients,
        "recoveries": state.counters.recoveries,
        "servers": {name: one.connections for name, one in state.servers.items()},
    }


async def refuses(io: waypost.Server) -> bool:
    return await hub_of(io).gate.refusal(STRANGER) is not None


async def test_the_state_of_each_server_is_that_of_all(pair: Pair) -> None:
    _, one, two = pair
    two.of("/other")
    await connect(one)
    await connect(two)
    await connect(two, "/other")
    hub_of(two).services.counters.slow_clients = 3
    hub_of(two).services.counters.recoveries["recovered"] = 1
    expected = {
        "connections": 3,
        "sockets": {"/": 2, "/other": 1},
        "slow clients": 3,
        "recoveries": {"recovered": 1},
        "servers": {"n0": 1, "n1": 2},
    }
    for io in (one, two):
        # They tell each other again and again, and what they tell first may be a part.
        await until_async(partial(shown, io), lambda told: told == expected, "it knows all there is")
        assert set(io.state().journals) >= {"/"}
    assert (one.state().server, two.state().server) == ("n0", "n1")


async def test_totals_stay_when_a_server_goes_and_another_one_comes(pair: Pair) -> None:
    nodes, one, two = pair
    hub_of(two).services.counters.slow_clients = 3
    await until(lambda: one.state().counters.slow_clients == 3)
    nodes.kill("n1")
    await until(lambda: "n1" not in one.state().servers)
    assert one.state().counters.slow_clients == 3
    three = waypost.Server(**OPTIONS)
    join(nodes, three, "n2")
    async with running(three):
        hub_of(three).services.counters.slow_clients = 1
        await until(lambda: one.state().counters.slow_clients == three.state().counters.slow_clients == 4)


async def test_servers_that_have_nothing_to_tell_are_silent(pair: Pair) -> None:
    _, one, two = pair
    for io in (one, two):
        # On a machine that is busy the event loop may be late.
        hub_of(io).numbers.stop()
    await until(lambda: len(one.state().servers) == 2)
    await asyncio.sleep(0.02)
    heard = one.state().servers
    await asyncio.sleep(0.05)
    # Each message that comes makes new objects.
    assert one.state().servers["n1"] is heard["n1"]


async def test_a_server_that_is_alone_names_no_servers() -> None:
    io = waypost.Server(drain_s=0.0)
    async with running(io):
        state = io.state()
        assert (state.server, state.servers) == ("", {})


async def test_the_connections_of_an_address_count_on_all_servers(pair: Pair) -> None:
    nodes, one, two = pair
    await connect(one)
    await connect(one)
    last = await connect(two)
    for io in (one, two):
        await until(partial(has, io, connections=3))
        assert await refuses(io)
    last.vanish()
    assert last.connection is not None
    last.connection.abort("transport close")
    await until(lambda: one.state().connections == 2)
    assert not await refuses(one)
    await connect(two)
    await until(lambda: one.state().connections == 3)
    assert await refuses(one)
    nodes.kill("n1")
    await until(lambda: one.state().connections == 2)
    assert not await refuses(one)


async def test_connections_without_a_namespace_count_on_all_servers(pair: Pair) -> None:
    _, one, two = pair
    for io in (one, two):
        hub_of(io).engine.open("websocket", STRANGER, Revision4())
    for io in (one, two):
        await until(partial(has, io, connections=2))
        assert await refuses(io)


async def test_the_child_namespaces_that_an_address_makes_count_on_all_servers(pair: Pair) -> None:
    _, one, two = pair
    parents = [io.of(re.compile("/child-.*")) for io in (one, two)]
    for io, name in ((one, "/child-1"), (two, "/child-2")):
        assert (await connect(io, name)).connected
    await until(lambda: all(len(parent.children) == 2 for parent in parents))
    for io in (one, two):
        refused = ModelClient(io, "/child-3", handshake=STRANGER)
        await refused.connect()
        assert refused.refusal == {"message": "Too many namespaces"}
        assert refused.connection is not None
        refused.connection.abort("transport close")
    # Children that are there let everybody in.
    assert (await connect(one, "/child-2")).connected


async def test_sessions_that_an_address_leaves_behind_count_on_all_servers(pair: Pair) -> None:
    _, one, two = pair
    ended: list[str] = []
    one.on("session_expired", lambda session: ended.append(session.socket_id))
    first, second, third = await connect(one), await connect(two), await connect(one)
    await first.cut()
    await second.cut()
    await until(lambda: not hub_of(one).numbers.sites["away"].has_room(STRANGER.address))
    assert not ended
    await third.cut()
    async with asyncio.timeout(60):
        while not ended:
            await hub_of(one).keep_up()
            await asyncio.sleep(0)
    assert ended == [first.sid]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=300))
def test_only_numbers_that_are_not_small_are_told(steps: list[tuple[str, bool]]) -> None:
    counts, real = SiteCounts(320), dict.fromkeys("abc", 0)
    for site, is_more in steps:
        if is_more or not real[site]:
            counts.add(site)
            real[site] += 1
        else:
            counts.remove(site)
            real[site] -= 1
        assert counts.to_tell() == {one: count for one, count in real.items() if count > 5}
    assert len(counts) == sum(map(bool, real.values()))


def test_the_numbers_of_another_server_take_the_place_of_its_last_ones() -> None:
    counts = SiteCounts(5)
    counts.add("a")
    counts.heard("one", {"a": 3})
    assert counts.has_room("a")
    counts.heard("two", {"a": 1, "b": 9})
    assert not counts.has_room("a")
    assert not counts.exceeds("a")
    assert counts.exceeds("b")
    counts.heard("two", {})
    counts.heard("one", {"a": 4})
    assert not counts.has_room("a")
    counts.heard("one", {})
    assert counts.has_room("a")
    assert counts.has_room("b")


def test_counters_are_added_and_raised() -> None:
    total = Counters(recoveries={"recovered": 1}, slow_clients=2)
    add_counters(total, Counters(recoveries={"recovered": 2, "expired": 1}, slow_clients=1, expired_sessions=5))
    assert total == Counters(recoveries={"recovered": 3, "expired": 1}, slow_clients=3, expired_sessions=5)
    raise_counters(total, Counters(recoveries={"recovered": 2, "expired": 4}, slow_clients=9))
    assert total == Counters(recoveries={"recovered": 3, "expired": 4}, slow_clients=9, expired_sessions=5)
