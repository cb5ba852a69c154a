"""Closes all connections when a server stops, spread over a time, so that not all clients reconnect at once."""

from __future__ import annotations

import asyncio
import contextlib
from math import inf

from waypost.checking.arguments import POSITIVE_OR_ZERO, check
from waypost.server.connections.engine import Engine

__all__ = ["Drain"]

_REASON = "server shutting down"
_FLUSH_TIMEOUT_S = 2.0
_LATE_TIMEOUT_S = 0.5
"""The time in which acks may come that clients sent before they heard of the stop."""


class Drain:
    """Closes all connections of a server.

    Args:
        engine: The table of connections. No new connection may be opened once `run` is called.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._within_s = inf
        self._began: float | None = None
        self._ends = inf
        self._sooner = asyncio.Event()

    def end_within(self, seconds: float) -> None:
        """Set the time limit for the last disconnect. A later limit than before has no effect.

        Args:
            seconds: Seconds from now, or from the first disconnect if that is still to come; from 0.

        Raises:
            ConfigurationError: ``seconds`` is not a number from 0.
        """
        check("drain_s", seconds, POSITIVE_OR_ZERO)
        if self._began is None:
            self._within_s = min(self._within_s, seconds)
            return
        ends = asyncio.get_running_loop().time() + seconds
        if ends < self._ends:
            self._ends = ends
            self._sooner.set()

    async def run(self) -> None:
        """Close the connections one after the other, wait for their last frames and acks, then abort the others."""
        began = self._began = asyncio.get_running_loop().time()
        self._ends = began + self._within_s
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
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LATE_TIMEOUT_S):
                await self._engine.hear_late()

    async def _wait(self, began: float, share: float) -> None:
        """Wait until a share of the time is over.

        The schedule is absolute, so the cost of closing does not add up.
        """
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0)
        while (left_s := began + (self._ends - began) * share - loop.time()) > 0:
            self._sooner.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._sooner.wait()
