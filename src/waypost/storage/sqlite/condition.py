"""The condition of a store's file: whether it is lost, its disk is full, or a write is stuck."""

from __future__ import annotations

import time
from typing import Final

from waypost.storage.sqlite.disk_room import DiskRoom
from waypost.storage.sqlite.guard import Guard
from waypost.storage.trouble import STUCK_S, Trouble

__all__ = ["Condition"]

_STUCK: Final = "a write has been under way for {:.0f} s: another program holds the file's lock, or its disk hangs"


class Condition:
    """Tells what is wrong with a file. The writer's thread notes what it does; any thread may ask.

    Args:
        guard: Watches over the file; ``None`` for a visitor.
        room: Decides whether emits may be written; ``None`` for a visitor.
    """

    __slots__ = ("_busy_since", "_guard", "_room")

    def __init__(self, guard: Guard | None, room: DiskRoom | None) -> None:
        self._guard = guard
        self._room = room
        self._busy_since: float | None = None

    def begin(self) -> None:
        """Note that something is to be written, and goes on to be."""
        if self._busy_since is None:
            self._busy_since = time.monotonic()

    def end(self) -> None:
        """Note that all of it was written, or has failed."""
        self._busy_since = None

    def troubles(self) -> tuple[Trouble, ...]:
        """Return what is wrong."""
        if self._guard is not None and (lost := self._guard.lost) is not None:
            return (Trouble("lost", 0.0, lost.problem),)
        troubles = []
        if self._room is not None and (short := self._room.shortage) is not None:
            troubles.append(Trouble("full", self._room.short_s, short.problem))
        busy_since = self._busy_since
        if busy_since is not None and (stuck_s := time.monotonic() - busy_since) > STUCK_S:
            troubles.append(Trouble("stuck", stuck_s, _STUCK.format(stuck_s)))
        return tuple(troubles)
