"""The honest clients: one call a second each, a numbered broadcast that none may miss, and lines that are cut."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import waypost
from tests.support.link import Link

__all__ = ["Crowd", "Quarter"]

_LINKS = 8
_CALL_TIMEOUT_S = 30
_CUT_EVERY_S = 5.0
_TRANSPORTS: tuple[tuple[Any, ...], ...] = (("websocket",), ("polling",), ("polling", "websocket"))


@dataclass
class Quarter:
    """What the honest clients saw in one part of the run.

    Attributes:
        waits_s: How long each answered call took, on a line that was there all the time.
        over_cuts_s: How long those took whose line was cut, or was still away when they began.
        refused: The calls that got no answer, because of the time or a cut line.
        lost: The broadcasts that a client never got.
        doubled: The broadcasts that a client got twice, or after a later one.
        restarts: How often a client had to begin a new session.
    """

    waits_s: list[float] = field(default_factory=list)
    over_cuts_s: list[float] = field(default_factory=list)
    refused: int = 0
    lost: int = 0
    doubled: int = 0
    restarts: int = 0

    def percentile_ms(self, share: float) -> float:
        """Return a percentile of the waits, in milliseconds."""
        waits = sorted(self.waits_s)
        return waits[min(int(share * len(waits)), len(waits) - 1)] * 1000 if waits else float("nan")


class Crowd:
    """The honest clients.

    Args:
        port: Where the server listens.
        size: How many clients there are.
        rng: What decides on transports, pauses and cuts.

    Attributes:
        quarter: Where the figures of now go; the run replaces it from time to time.
    """

    def __init__(self, port: int, size: int, rng: Random) -> None:
        self.quarter = Quarter()
        self._port = port
        self._size = size
        self._rng = rng
        self._cuts: Counter[waypost.Client] = Counter()

    @asynccontextmanager
    async def present(self) -> AsyncIterator[None]:
        """Have all clients connected and busy while the block runs."""
        async with AsyncExitStack() as stack:
            links = [await stack.enter_async_context(Link.to(self._port)) for _ in range(_LINKS)]
            clients = []
            for number in range(self._size):
                transports = _TRANSPORTS[number % len(_TRANSPORTS)]
                url = f"{links[number % _LINKS].url}?honest=1"
                client = waypost.Client(url, transports=transports)
                self._listen(client)
                clients.append(await stack.enter_async_context(client))
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._call(client)) for client in clients]
                tasks.append(group.create_task(self._tick(clients[0])))
                tasks.append(group.create_task(self._cut(links)))
                try:
                    yield
                finally:
                    for task in tasks:
                        task.cancel()

    def _listen(self, client: waypost.Client) -> None:
        newest = -1

        async def ticked(number: int) -> None:
            nonlocal newest
            if number <= newest:
                self.quarter.doubled += 1
            elif newest >= 0:
                self.quarter.lost += number - newest - 1
            newest = max(newest, number)

        async def connect() -> None:
            nonlocal newest
            if newest >= 0 and not client.recovered:
                self.quarter.restarts += 1

        async def disconnect() -> None:
            self._cuts[client] += 1

        client.on("ticked", ticked)
        client.on("disconnect", disconnect)
        client.on("connect", connect)

    async def _call(self, client: waypost.Client) -> None:
        await asyncio.sleep(self._rng.random())
        while True:
            started, cuts, was_there = time.monotonic(), self._cuts[client], client.connected
            try:
                answer = await client.call("echo", started, timeout_s=_CALL_TIMEOUT_S)
            except waypost.WaypostError:
                self.quarter.refused += 1
            else:
                assert answer == started
                waits = self.quarter.waits_s if was_there and cuts == self._cuts[client] else self.quarter.over_cuts_s
                waits.append(time.monotonic() - started)
            await asyncio.sleep(max(0.0, started + 1 - time.monotonic()))

    async def _tick(self, client: waypost.Client) -> None:
        while True:
            await client.emit("tick")
            await asyncio.sleep(0.5)

    async def _cut(self, links: list[Link]) -> None:
        while True:
            await asyncio.sleep(_CUT_EVERY_S)
            self._rng.choice(links).cut()
