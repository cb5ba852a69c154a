"""Acknowledged events (item 1), and emits to single sockets (item 3): throughput in a closed loop."""

from __future__ import annotations

from collections.abc import AsyncIterator

from bench.speed.contenders import Serving
from bench.speed.items.common import Extent, Figures, asked
from bench.speed.scripts import ACKS, EMITS

__all__ = ["acks", "single"]

_CASES = {"1 client, 16 in flight": (1, 16), "100 clients": (100, 1), "1,000 clients": (1000, 1)}


async def acks(server: Serving, extent: Extent) -> AsyncIterator[tuple[str, Figures]]:
    """Measure events that are answered with what they carry."""
    for case, (clients, in_flight) in _CASES.items():
        figures = await asked(server, ACKS, clients, in_flight, extent.seconds)
        if clients == 100:
            extent.rates[server.contender.name] = figures["per_s"]
        yield case, figures


async def single(server: Serving, extent: Extent) -> AsyncIterator[tuple[str, Figures]]:
    """Measure events that are answered by an event emitted to their sender."""
    for case, (clients, in_flight) in _CASES.items():
        if extent.is_full or clients == 100:
            yield case, await asked(server, EMITS, clients, in_flight, extent.seconds)
