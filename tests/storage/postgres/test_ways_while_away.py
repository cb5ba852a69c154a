"""Requests for another node's sessions while PostgreSQL is away: the node is reached where it was."""

from __future__ import annotations

import asyncio

from tests.storage.postgres.stores import opened, until
from tests.support.postgres import PostgresServer


async def test_a_node_is_reached_where_it_was_when_the_engine_answered_last(own_postgres: PostgresServer) -> None:
    url = own_postgres.url(own_postgres.create_database())
    async with opened(url) as one, opened(url) as two:
        mine, theirs = one.nodes, two.nodes
        assert mine is not None
        assert theirs is not None
        await until(lambda: mine.name in theirs.others)
        came: list[asyncio.Transport] = []
        assert mine.ways is not None
        assert theirs.ways is not None
        mine.ways.serve(came.append)
        own_postgres.stop("immediate")
        # The first request for a session of that node: nothing is known of an earlier one.
        transport = await theirs.ways.open(mine.ways.number)
        assert transport is not None
        await until(lambda: bool(came))
        for each in (transport, *came):
            each.abort()
        own_postgres.start()
