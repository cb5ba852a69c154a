"""Changes of a store that are tried until it takes them: the ends of sessions, and of connections."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from waypost.retrying import STORE_RETRIES, Backoff
from waypost.server.services import Services

__all__ = ["Insisting"]


class Insisting:
    """The changes that a store has not taken yet.

    Args:
        services: What the server's parts share.

    Attributes:
        unfinished: The number of these changes.
    """

    __slots__ = ("_gives_up", "_pauses", "_services", "unfinished")

    def __init__(self, services: Services) -> None:
        self._services = services
        self._gives_up = False
        self._pauses: set[asyncio.Future[None]] = set()
        self.unfinished = 0

    def insist(self, attempt: Callable[[], Awaitable[bool]]) -> None:
        """Try a change until it is done, with pauses by `STORE_RETRIES`.

        Args:
            attempt: Tries it; returns whether it is done, or needed no more.
        """
        self._services.keep_task(asyncio.get_running_loop().create_task(self._try(attempt)))

    def give_up(self) -> None:
        """Try each change at most once from now on: the server stops, and the store's next opening mends the rest."""
        self._gives_up = True
        for pause in self._pauses:
            pause.cancel()

    async def _try(self, attempt: Callable[[], Awaitable[bool]]) -> None:
        self.unfinished += 1
        try:
            backoff = Backoff(STORE_RETRIES)
            while not await attempt():
                if not self._gives_up:
                    await self._pause(backoff.next_s())
                if self._gives_up:
                    return
        finally:
            self.unfinished -= 1

    async def _pause(self, seconds: float) -> None:
        pause: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pauses.add(pause)
        try:
            await asyncio.wait({pause}, timeout=seconds)
        finally:
            self._pauses.discard(pause)
