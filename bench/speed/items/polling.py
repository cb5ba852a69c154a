"""HTTP long-polling round trips (item 4): an event in a POST, its acknowledgement in a poll."""

from __future__ import annotations

from collections.abc import AsyncIterator

from bench.speed.asking import Tally
from bench.speed.contenders import Serving
from bench.speed.items.common import Extent, Figures, closed_loop
from bench.speed.polling import Poller, connect_all

__all__ = ["polling"]


async def polling(server: Serving, extent: Extent) -> AsyncIterator[tuple[str, Figures]]:
    """Measure acknowledged events of clients that can't do better."""
    for clients in (1, 100, 1000) if extent.is_full else (100,):
        tally = Tally()
        pollers = [Poller(server.port, tally) for _ in range(clients)]
        await connect_all(pollers)
        figures = await closed_loop(server, tally, pollers, extent.seconds)
        for poller in pollers:
            poller.close()
        yield f"{clients:,} client{'s' * (clients > 1)}", figures
