"""How long an acknowledged event takes at half load (item 1): asked by the clock, timed from when it was due."""

from __future__ import annotations

from collections.abc import AsyncIterator

from bench.speed.asking import Pace, PacedAsker, Unexpected
from bench.speed.contenders import Serving
from bench.speed.entering import enter_all, leave
from bench.speed.items.common import Extent, Figures, asked, without_collector
from bench.speed.process import Used
from bench.speed.sample import percentile
from bench.speed.scripts import ACKS

__all__ = ["latency"]

_CLIENTS = 100
_WARM_UP_S = 0.5
_PEERS = ("waypost-memory", "node-recovery")


async def latency(server: Serving, extent: Extent) -> AsyncIterator[tuple[str, Figures]]:
    """Measure at half of what the slower of Waypost and Node can do, and at half of what this server can."""
    rates = extent.rates
    name = server.contender.name
    if name not in rates:
        rates[name] = (await asked(server, ACKS, _CLIENTS, 1, extent.seconds))["per_s"]
    own = rates[name] / 2
    peers = [rates[peer] / 2 for peer in _PEERS if peer in rates]
    if len(peers) == len(_PEERS) and min(peers) <= rates[name] * 0.8:
        yield "100 clients, half of the slower's load", await _paced(server, min(peers), extent.seconds)
    yield "100 clients, half of its own load", await _paced(server, own, extent.seconds)


async def _paced(server: Serving, rate: float, seconds: float) -> Figures:
    pace = Pace(rate)
    askers = [PacedAsker(pace) for _ in range(_CLIENTS)]
    await enter_all(server.port, [{} for _ in askers], askers)
    async with without_collector():
        if not await pace.run(askers, _WARM_UP_S):
            raise Unexpected("a server left questions without an answer while it warmed up")
        pace = Pace(rate)
        for asker in askers:
            asker.follow(pace)
        start = Used.now(server.pid)
        complete = await pace.run(askers, seconds)
        used = Used.now(server.pid).since(start)
    for asker in askers:
        leave(asker.transport)
    if not complete:
        raise Unexpected(f"{len(pace.due) - len(pace.latencies)} of {len(pace.due)} answers did not come")
    latencies, late = sorted(pace.latencies), sorted(pace.late)
    return {
        "asked_per_s": rate,
        "p50_ms": percentile(latencies, 0.5) * 1000,
        "p99_ms": percentile(latencies, 0.99) * 1000,
        "sent_late_p99_ms": percentile(late, 0.99) * 1000,
        "server_us": used.server_s / len(latencies) * 1e6,
    }
