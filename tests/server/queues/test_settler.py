"""What waits for the store, and when deliveries go on after too much did."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from waypost.server.queues import settler
from waypost.server.queues.settler import Settler
from waypost.storage.memory.store import MemoryStore


@pytest.mark.parametrize("settled", [0, 3])
async def test_what_is_dropped_does_not_hold_deliveries_back(monkeypatch: pytest.MonkeyPatch, settled: int) -> None:
    monkeypatch.setattr(settler, "_MOST_PENDING", 2)
    store, woken = MemoryStore(), [0]
    await store.open()

    def caught_up() -> None:
        woken[0] += 1

    tasks: set[asyncio.Task[Any]] = set()
    keep: Callable[[asyncio.Task[Any]], None] = tasks.add
    one = Settler(store.queue("jobs"), "work", 1, lambda _row: None, caught_up, keep)
    for position in range(settled):
        one.settle(position)
    assert one.is_behind is bool(settled)
    one.drop()
    assert not one.is_behind
    assert woken == [1 if settled else 0]
    await one.flush()
    await store.close()
