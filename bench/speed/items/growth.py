"""How costs grow (item 10): a delivery with the number of connections, an emit with the number of rooms."""

from __future__ import annotations

from collections.abc import AsyncIterator

from bench.speed.contenders import Serving
from bench.speed.items.broadcast import Blast, Crowd
from bench.speed.items.common import Extent, Figures

__all__ = ["growth"]

_SIZE_BYTES = 32
_IN_ROOMS = 100


async def growth(server: Serving, extent: Extent) -> AsyncIterator[tuple[str, Figures]]:
    """Measure deliveries to all, and emits to one client among many rooms."""
    for connections in (100, 1_000, 10_000) if extent.is_full else (100, 1_000):
        crowd = await Crowd.gather(server, [["all"]] * connections)
        blast = Blast(f"{connections:,} connections, to all", ["all"], connections, _SIZE_BYTES)
        yield blast.name, await crowd.measure(blast, extent.seconds)
        crowd.close()
    for rooms in (10, 1_000, 100_000) if extent.is_full else (10, 1_000):
        names = [[f"n{room}" for room in range(number, rooms, _IN_ROOMS)] for number in range(_IN_ROOMS)]
        crowd = await Crowd.gather(server, names)
        blast = Blast(f"{rooms:,} rooms, to one of them", ["n0"], 1, _SIZE_BYTES)
        yield blast.name, await crowd.measure(blast, extent.seconds)
        crowd.close()
