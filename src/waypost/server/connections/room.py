"""Waits until so little of a connection's output is left to send that more may follow."""

from __future__ import annotations

import asyncio

__all__ = ["RoomWaiters"]


class RoomWaiters:
    """The callers that wait until fewer bytes than a number of theirs wait to be sent."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        # A tuple: it is almost always empty, and there are many connections.
        self._waiting: tuple[tuple[int, asyncio.Future[None]], ...] = ()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def next_change(self, below_bytes: int) -> asyncio.Future[None]:
        """Return a future that is done at the next `announce` with fewer bytes than this."""
        future = asyncio.get_running_loop().create_future()
        self._waiting += ((below_bytes, future),)
        return future

    def announce(self, buffered_bytes: int) -> None:
        """Wake those that wait for this; -1 wakes all."""
        still = []
        for below_bytes, future in self._waiting:
            if buffered_bytes >= below_bytes:
                still.append((below_bytes, future))
            elif not future.done():
                future.set_result(None)
        self._waiting = tuple(still)
