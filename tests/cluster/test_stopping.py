"""A server that stops while others go on."""

from __future__ import annotations

import asyncio
import logging

import pytest

import waypost
from tests.cluster.nodes import cluster
from tests.support.chosen_store import is_postgresql


@pytest.mark.skipif(is_postgresql(), reason="there, messages between nodes do not go through the store")
async def test_a_message_to_all_that_comes_back_to_a_server_that_stops_is_nobodys(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with cluster(2) as nodes:
        io = nodes.servers[0]
        nodes.freeze(0)
        telling = asyncio.create_task(io.except_().volatile.emit("news"))
        await asyncio.sleep(0)
        stopping = asyncio.create_task(io.close())
        with pytest.raises(waypost.StoreClosed):
            await telling
        nodes.thaw(0)
        await stopping
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
