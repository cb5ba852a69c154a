"""What the pieces of work share."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from bench.speed.asking import Asker, Tally, Unexpected
from bench.speed.contenders import Serving
from bench.speed.entering import enter_all, leave
from bench.speed.process import Used, cpu_s
from bench.speed.scripts import Script

__all__ = [
    "Extent",
    "Figures",
    "asked",
    "closed_loop",
    "enough",
    "rate_figures",
    "settled",
    "warmed_up",
    "without_collector",
]

Figures = dict[str, float]
_WARM_UP_CPU_S = 0.4
_WARM_UP_LIMIT_S = 2.0
_LIMIT_S = 15.0
_PATIENCE = 3


@dataclass(frozen=True)
class Extent:
    """How much is measured.

    Attributes:
        rounds: How often everyone has its turn.
        seconds: How long one measurement takes.
        is_full: Whether all cases and sizes are measured.
        rates: What a server was found to do, for work that loads it by half.
    """

    rounds: int
    seconds: float
    is_full: bool
    rates: dict[str, float] = field(default_factory=dict)


def rate_figures(count: int, used: Used) -> Figures:
    """Give rates and costs of so many operations."""
    return {
        "per_s": count / used.seconds,
        "server_us": used.server_s / count * 1e6 if count else 0.0,
        "server_share": used.server_s / used.seconds,
        "load_us": used.load_s / count * 1e6 if count else 0.0,
        "load_share": used.load_s / used.seconds,
    }


@asynccontextmanager
async def without_collector() -> AsyncIterator[None]:
    """Keep the load generator's garbage collector out of a measurement."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def settled(condition: Callable[[], bool], what: str, limit_s: float = _LIMIT_S) -> None:
    """Wait until something is so.

    Raises:
        Unexpected: It did not become so in time: a server left something out.
    """
    try:
        async with asyncio.timeout(limit_s):
            while not condition():
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise Unexpected(what) from None


def enough(used: Used, seconds: float) -> bool:
    """Tell whether a measurement has gone on for long enough.

    On a machine that others use, too, the server must have had half of its core for that long, within limits.
    """
    return used.seconds >= seconds and (used.server_s >= seconds / 2 or used.seconds >= seconds * _PATIENCE)


async def warmed_up(server: Serving, seconds: float) -> None:
    """Let a server that is at work become as fast as it gets before a measurement of so many seconds.

    Compilers at run time need a while; a server that has little of its core gets longer.
    """
    before, deadline = cpu_s(server.pid), time.perf_counter() + min(_WARM_UP_LIMIT_S, 4 * seconds)
    while cpu_s(server.pid) - before < _WARM_UP_CPU_S and time.perf_counter() < deadline:
        await asyncio.sleep(0.05)


class Starter(Protocol):
    """A client that asks the next question when it is answered."""

    def start(self) -> None:
        """Ask the first."""
        ...


async def closed_loop(server: Serving, tally: Tally, clients: Sequence[Starter], seconds: float) -> Figures:
    """Let connected clients ask for so long; every answer is checked, and none may be missing at the end."""
    async with without_collector():
        tally.running = True
        for client in clients:
            client.start()
        await warmed_up(server, seconds)
        start, done, count = Used.now(server.pid), tally.done, 0
        used = start.since(start)
        while tally.failure is None and not enough(used, seconds):
            await asyncio.sleep(min(0.1, seconds))
            used, count = Used.now(server.pid).since(start), tally.done - done
        tally.running = False
    if tally.failure is None:
        await settled(lambda: tally.done == tally.sent, "a server left questions without an answer")
    if tally.failure is not None:
        raise tally.failure
    return rate_figures(count, used)


async def asked(server: Serving, script: Script, clients: int, in_flight: int, seconds: float) -> Figures:
    """Connect so many clients and have them ask."""
    tally = Tally()
    askers = [Asker(script, tally, in_flight, first=number * 7) for number in range(clients)]
    await enter_all(server.port, [{} for _ in askers], askers)
    figures = await closed_loop(server, tally, askers, seconds)
    for asker in askers:
        leave(asker.transport)
    return figures
