"""Backpressure of a client: slow handlers pause reading from the connection, but never delay an acknowledgement."""

from __future__ import annotations

import asyncio

__all__ = ["Flow"]


class Flow:
    """The state that the namespaces of one connection share to decide whether to pause reading.

    Attributes:
        awaited: The number of awaited acknowledgements in all namespaces. While there are any, reading continues.
    """

    __slots__ = ("_changed", "awaited")

    def __init__(self) -> None:
        self.awaited = 0
        self._changed = asyncio.Event()

    def begin_call(self) -> None:
        """Note that a call awaits its acknowledgement."""
        self.awaited += 1
        self._changed.set()

    def end_call(self) -> None:
        """Note that a call no longer awaits its acknowledgement."""
        self.awaited -= 1

    def shrunk(self) -> None:
        """Note that fewer events wait for their handlers, or that the connection is lost."""
        self._changed.set()

    async def change(self) -> None:
        """Wait until reading may be possible again. May be cancelled."""
        self._changed.clear()
        await self._changed.wait()
