"""A long backlog: as much memory as a short one, and others are served while it is worked off."""

from __future__ import annotations

import asyncio
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

import waypost
from tests.server.model_client import ModelClient, running
from tests.server.queues.client import Site

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

# Some thousand acks may wait for a slow disk, whatever the backlog.
_FEW, _MANY = 5_000, 40_000
_MESSAGE_BYTES = 200


class _Counter(list[Any]):
    """Takes events and keeps none."""

    taken = 0

    def append(self, event: Any) -> None:
        self.taken += 1


@pytest.mark.parametrize("order", ["strict", "none"])
async def test_a_long_backlog_takes_no_more_memory_than_a_short_one(tmp_path: Path, order: str) -> None:
    site = Site(waypost.Server(store=str(tmp_path / "store.db"), drain_s=0), {"order": order})

    @site.io.event
    async def hello(socket: waypost.Socket) -> str:
        return "hello"

    async with running(site.io):
        few = max([await _work_off(site, _FEW) for _ in range(3)])
        many = await _work_off(site, _MANY)
        # What is kept of each message would be more than that for the messages that there are more of.
        spare = (_MANY - _FEW) * _MESSAGE_BYTES // 2
        assert many < few + spare, f"{many} bytes for {_MANY} messages, {few} for {_FEW}"


async def _work_off(site: Site, messages: int) -> int:
    """Have a client take that many messages that wait, and another one served; returns the most memory it took."""
    for start in range(0, messages, 1000):
        await site.queue.emit_many(
            [
                waypost.NewMessage("job", "x" * _MESSAGE_BYTES, key=str(number % 7))
                for number in range(start, start + 1000)
            ]
        )
    client, caller = ModelClient(site.io), await site.client("other")
    caller_calls = 0
    client.events = counter = _Counter()
    tracemalloc.start()
    try:
        await client.connect()
        async with asyncio.timeout(300):
            while counter.taken < messages:
                caller_calls += 1
                caller.send(f'2{caller_calls}["hello"]')
                while caller_calls not in caller.acks:
                    await asyncio.sleep(0)
                caller.acks.clear()
                # The queue has not waited for the caller, nor the caller for the queue.
                await asyncio.sleep(0.005)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caller_calls > 1
    await client.cut()
    await caller.cut()
    await site.settled()
    await site.queue.get_consumer("other").delete()
    return peak
