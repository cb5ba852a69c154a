"""When a client reads no further: handlers that can't keep up hold the connection back, but never an answer."""

from __future__ import annotations

import asyncio

__all__ = ["Flow"]


class Flow:
    """What all namespaces of one connection know of each other's waiting.

    Attributes:
        awaited: How many acknowledgements are awaited, in any namespace; to be read, they need the connection.
    """

    __slots__ = ("_changed", "awaited")

    def __init__(self) -> None:
        self.awaited = 0
        self._changed = asyncio.Event()

    def begin_call(self) -> None:
        """An acknowledgement is awaited."""
        self.awaited += 1
        self._changed.set()

    def end_call(self) -> None:
        """It is no more."""
        self.awaited -= 1

    def shrunk(self) -> None:
        """Fewer events wait for their handlers than before, or the connection is gone."""
        self._changed.set()

    async def change(self) -> None:
        """Wait until it may be possible to read on."""
        self._changed.clear()
        await self._changed.wait()
