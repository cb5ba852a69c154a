"""Three servers whose PostgreSQL is away for longer than a dead node has: nobody is told anything."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from tests.interop.peer import Peer
from tests.interop.publishing import more, publishing
from tests.interop.test_nodes import check, listen, service
from tests.support.postgres import PostgresServer

pytestmark = [pytest.mark.node, pytest.mark.asyncio, pytest.mark.long, pytest.mark.timeout(300)]

_AWAY_S = 20.0
_LIVING = "SELECT name, incarnation, deaths FROM waypost.node ORDER BY id"


async def test_an_engine_that_was_away_for_twenty_seconds_costs_nobody_a_session(
    own_postgres: PostgresServer, tmp_path: Path, rng: random.Random
) -> None:
    async with service(own_postgres, tmp_path, rng) as one, Peer.start() as peer:
        listeners = await listen(peer, one)
        (database,) = own_postgres.execute("SELECT datname FROM pg_database WHERE datname LIKE 'test_%'")[0]
        async with publishing(*listeners[:3]) as publishers:
            await more(listeners[-1], 30)
            nodes = own_postgres.execute(_LIVING, database=database)
            own_postgres.stop()
            await asyncio.sleep(_AWAY_S)
            own_postgres.start()
            await more(listeners[-1], 50)
        await check(publishers, listeners, in_order=False)
        assert [len(listener.connects) for listener in listeners] == [1] * len(listeners), "a client was cut off"
        assert own_postgres.execute(_LIVING, database=database) == nodes, "a node was taken for dead"
        await peer.leave_all()
