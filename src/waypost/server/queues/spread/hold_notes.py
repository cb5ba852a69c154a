"""Tells the store what the functions of this node hold of consumers that other nodes own."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from waypost.errors import StorageError
from waypost.server.queues.delivery import Attachment
from waypost.storage.queue_base import StoredQueue

__all__ = ["HoldNotes"]

# What is held for less than this is not noted.
_NOTE_AFTER_S = 0.03


class HoldNotes:
    """The notes for one consumer; see `StoredQueue.hold`.

    Args:
        queue: The stored queue.
        consumer: The consumer's name.
    """

    __slots__ = ("_changed", "_consumer", "_noted", "_queue", "_timer")

    def __init__(self, queue: StoredQueue, consumer: str) -> None:
        self._queue = queue
        self._consumer = consumer
        self._changed: dict[Attachment, None] = {}
        self._noted: dict[str, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def look(self, attachment: Attachment) -> None:
        """Note soon what a function holds, if that has changed."""
        if not attachment.carrier.is_noted:
            return
        self._changed[attachment] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_NOTE_AFTER_S, self._note)

    def stop(self) -> None:
        """Note nothing any more: what serves the consumer next does."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._changed.clear()

    def _note(self) -> None:
        self._timer = None
        for attachment in self._changed:
            label, oldest = attachment.carrier.label, attachment.oldest
            position = None if oldest is None else oldest.message.position
            if position == self._noted.get(label):
                continue
            if position is None:
                del self._noted[label]
            else:
                self._noted[label] = position
            with suppress(StorageError):
                self._queue.hold(self._consumer, label, position)
        self._changed.clear()
