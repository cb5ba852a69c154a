"""Backpressure of a client: slow handlers pause reading from the connection, but never delay an acknowledgement."""

from __future__ import annotations

import asyncio

__all__ = ["Flow"]

_ALWAYS_WAITING = 65_536
"""So many bytes may wait whatever is being handled: long work on large events must not stop heartbeats behind it."""
_SHARE_WHILE_AWAITED = 10
"""While an acknowledgement is awaited, so many times as much may wait, because the acknowledgement has to be read."""


class Flow:
    """The state that the namespaces of one connection share to decide whether to pause reading.

    Args:
        max_pending_events: The most events of one namespace that wait for their handlers.
        max_pending_bytes: The most bytes, as decoded, of all events that wait or are being handled.

    Attributes:
        awaited: The number of awaited acknowledgements in all namespaces. While there are any, reading continues.
    """

    __slots__ = ("_changed", "_in_hand", "_max_pending_bytes", "_max_pending_events", "_waiting", "awaited")

    def __init__(self, max_pending_events: int, max_pending_bytes: int) -> None:
        self.awaited = 0
        self._waiting = 0
        self._in_hand = 0
        self._max_pending_events = max_pending_events
        self._max_pending_bytes = max_pending_bytes
        self._changed = asyncio.Event()

    def begin_call(self) -> None:
        """Note that a call awaits its acknowledgement."""
        self.awaited += 1
        self._changed.set()

    def end_call(self) -> None:
        """Note that a call no longer awaits its acknowledgement."""
        self.awaited -= 1

    def put(self, size: int) -> None:
        """Note that an event of so many bytes waits."""
        self._waiting += size

    def take(self, size: int) -> None:
        """Note that an event that waited is being handled."""
        self._waiting -= size
        self._in_hand += size
        self._changed.set()

    def drop(self, size: int) -> None:
        """Note that an event that waited is forgotten."""
        self._waiting -= size
        self._changed.set()

    def release(self, size: int) -> None:
        """Note that an event is not being handled any more."""
        self._in_hand -= size
        self._changed.set()

    def lost(self) -> None:
        """Note that the connection is lost."""
        self._changed.set()

    def is_full(self, waiting_events: int) -> bool:
        """Whether so many events of a namespace wait that no more should be read."""
        return waiting_events >= self._max_pending_events * self._share

    async def room_for(self, size: int) -> None:
        """Wait until a message that takes so many bytes may be decoded. May be cancelled.

        One message may be, however large, when no other event is there.
        """
        while not self._has_room(size):
            await self.change()

    def _has_room(self, size: int) -> bool:
        if self._waiting + size <= _ALWAYS_WAITING:
            return True
        pending = self._waiting + self._in_hand
        return not pending or pending + size <= self._max_pending_bytes * self._share

    @property
    def _share(self) -> int:
        return _SHARE_WHILE_AWAITED if self.awaited else 1

    async def change(self) -> None:
        """Wait until reading may be possible again. May be cancelled."""
        self._changed.clear()
        await self._changed.wait()
