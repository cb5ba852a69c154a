"""New connections a second (item 5): straight by WebSocket, and by polling with an upgrade, both with auth."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

from bench.speed.asking import Unexpected
from bench.speed.contenders import Serving
from bench.speed.entering import enter, leave
from bench.speed.http import connect_http, get_request
from bench.speed.items.common import Extent, Figures, enough, rate_figures, warmed_up, without_collector
from bench.speed.polling import open_session
from bench.speed.process import Used
from bench.speed.upgrading import upgrade

__all__ = ["connect"]

_AT_ONCE = 32
_ADDRESSED = 10_000


async def connect(server: Serving, extent: Extent) -> AsyncIterator[tuple[str, Figures]]:
    """Measure clients that come, are let in, and go."""
    yield "WebSocket, auth", await _coming(server, _by_websocket, extent.seconds)
    if server.contender.name != "ceiling":
        yield "polling, auth, upgrade", await _coming(server, _by_polling, extent.seconds)


async def _by_websocket(port: int, number: int) -> None:
    leave((await enter(port, {}, number)).transport)


async def _by_polling(port: int, number: int) -> None:
    """Do as the official client does: the poll that is under way must end before the upgrade does."""
    http = await connect_http(port, number)
    sid = await open_session(port, http)
    transport = await upgrade(port, sid, http.ask(get_request(port, sid)))
    leave(transport)
    leave(http.transport)


async def _coming(server: Serving, come: Callable[[int, int], Awaitable[None]], seconds: float) -> Figures:
    came = itertools.count()
    done = 0

    async def worker(numbers: Iterator[int]) -> None:
        nonlocal done
        for number in numbers:
            await come(server.port, number % _ADDRESSED)
            done += 1

    async with without_collector():
        workers = [asyncio.create_task(worker(came)) for _ in range(_AT_ONCE)]
        try:
            await warmed_up(server, seconds)
            start, before, used = Used.now(server.pid), done, Used(0, 0, 0)
            while not enough(used, seconds):
                await asyncio.wait(workers, timeout=min(0.1, seconds), return_when=asyncio.FIRST_EXCEPTION)
                if any(task.done() for task in workers):
                    raise Unexpected("a client could not come in")
                used, count = Used.now(server.pid).since(start), done - before
        finally:
            for task in workers:
                task.cancel()
            failures = await asyncio.gather(*workers, return_exceptions=True)
        for failure in failures:
            if not isinstance(failure, asyncio.CancelledError | None):
                raise failure
    return rate_figures(count, used)
