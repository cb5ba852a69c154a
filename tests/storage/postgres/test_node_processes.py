"""Nodes in processes of their own that are killed, frozen and cut off, and an engine that is away: who loses what."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest

from tests.storage.postgres.bare_nodes import prepare
from tests.storage.postgres.node_process import NodeProcess, node_processes
from tests.support.postgres import PostgresServer


@pytest.fixture
async def three(postgres_url: str) -> AsyncIterator[list[NodeProcess]]:
    """Three nodes, of which the last one owns the consumer and the others want it."""
    await prepare(postgres_url)
    async with node_processes(postgres_url, 3) as nodes:
        await own_by_last(nodes)
        yield nodes


async def own_by_last(nodes: list[NodeProcess]) -> None:
    """Let the last node own the consumer, and the others want it."""
    for one in reversed(nodes):
        one.order("claim", "q", "c")
        await one.heard("owner", nodes[-1].name)


async def assert_nobody_died(nodes: list[NodeProcess]) -> None:
    """Check that no node was dead for another one, and that all are still what they were."""
    for one in nodes:
        since = len(one.said)
        one.order("check")
        await one.heard("fine", since=since)
        assert one.words("gone") == []
        assert one.words("freed") == []


async def test_a_killed_nodes_consumers_are_free_soon(three: list[NodeProcess]) -> None:
    n0, n1, n2 = three
    n2.signal(signal.SIGKILL)
    await n0.heard("gone", "n2")
    await n1.heard("gone", "n2")
    await n0.heard("freed", "q", "c")
    await n1.heard("freed", "q", "c")
    since = len(n0.said)
    n0.order("claim", "q", "c")
    await n0.heard("owner", "n0", since=since)


async def test_a_node_that_stood_still_for_three_seconds_loses_nothing(three: list[NodeProcess]) -> None:
    await three[2].freeze(3.0)
    await asyncio.sleep(3.0)
    await assert_nobody_died(three)


async def test_a_node_that_stood_still_for_longer_comes_back_and_loses_what_was_taken(
    three: list[NodeProcess],
) -> None:
    n0, n1, n2 = three
    freezing = asyncio.ensure_future(n2.freeze(12.0))
    await n0.heard("freed", "q", "c")
    since = len(n0.said)
    n0.order("claim", "q", "c")
    await n0.heard("owner", "n0", since=since)
    assert not freezing.done()
    await freezing
    await n2.heard("freed", "q", "c")
    for one in (n0, n1):
        await one.heard("came", "n2", since=len(one.said) if not one.words("gone") else 2)
    since = len(n2.said)
    n2.order("claim", "q", "c")
    await n2.heard("owner", "n0", since=since)
    n2.order("check")
    await n2.heard("fine", since=since)


async def test_a_stuck_event_loop_loses_consumers_and_stays_alive(three: list[NodeProcess]) -> None:
    n0, n1, n2 = three
    n2.order("stick", 14.0)
    await n0.heard("freed", "q", "c")
    await n1.heard("freed", "q", "c")
    assert n2.words("awake") == []
    await n2.heard("freed", "q", "c")
    assert n0.words("gone") == n1.words("gone") == []
    since = len(n2.said)
    n2.order("check")
    await n2.heard("fine", since=since)


async def test_an_engine_that_was_away_for_twenty_seconds_kills_nobody(own_postgres: PostgresServer) -> None:
    url = own_postgres.url()
    await prepare(url)
    async with node_processes(url, 3) as nodes:
        await own_by_last(nodes)
        await asyncio.to_thread(own_postgres.stop, "immediate")
        await asyncio.sleep(20.0)
        await asyncio.to_thread(own_postgres.start)
        await asyncio.sleep(10.0)
        await assert_nobody_died(nodes)


async def test_an_engine_that_stood_still_for_ten_seconds_kills_nobody(own_postgres: PostgresServer) -> None:
    url = own_postgres.url()
    await prepare(url)
    async with node_processes(url, 3) as nodes:
        await own_by_last(nodes)
        await asyncio.to_thread(own_postgres.freeze)
        await asyncio.sleep(10.0)
        await asyncio.to_thread(own_postgres.thaw)
        await asyncio.sleep(8.0)
        await assert_nobody_died(nodes)
