"""The end of all connections when a server stops: spread over a time, so that not all clients return at once."""

from __future__ import annotations

import asyncio
import contextlib
from math import inf

from waypost.checking.arguments import POSITIVE_OR_ZERO, check
from waypost.server.connections.engine import Engine

__all__ = ["Drain"]

_REASON = "server shutting down"
_FLUSH_TIMEOUT_S = 2.0


class Drain:
    """Closes all connections of a server.

    Args:
        engine: The connections. Nobody may open one any more when `run` is called.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._ends = inf
        self._sooner = asyncio.Event()

    def end_within(self, seconds: float) -> None:
        """Have the last client told within so many seconds from now, or earlier if that was asked for before.

        Raises:
            ConfigurationError: It is no number from 0.
        """
        check("drain_s", seconds, POSITIVE_OR_ZERO)
        ends = asyncio.get_running_loop().time() + seconds
        if ends < self._ends:
            self._ends = ends
            self._sooner.set()

    async def run(self) -> None:
        """Tell the clients one after the other, let what was sent go out, then cut off whoever is left."""
        began = asyncio.get_running_loop().time()
        connections = self._engine.connections()
        for number, connection in enumerate(connections, 1):
            connection.close(_REASON)
            await self._wait(began, number / len(connections))
        try:
            async with asyncio.timeout(_FLUSH_TIMEOUT_S):
                await self._engine.wait_until_empty()
        except TimeoutError:
            for connection in self._engine.connections():
                connection.abort(_REASON)

    async def _wait(self, began: float, share: float) -> None:
        """Wait until a share of the time is over: by a timetable, so that what closing costs does not come on top."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0)
        while (left_s := began + (self._ends - began) * share - loop.time()) > 0:
            self._sooner.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._sooner.wait()
