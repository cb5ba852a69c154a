"""A store as another program sees it beside the servers: its queues, to be looked at and changed."""

from __future__ import annotations

from typing import Protocol

from waypost.storage.clock import StoreClock
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import Configuration, QueueRow

__all__ = ["Visitor"]


class Visitor(Protocol):
    """The queues of a store that servers may use; they are notified of the changed queues."""

    @property
    def clock(self) -> StoreClock:
        """The clock on which the store measures durations."""
        ...

    async def open(self) -> None:
        """Open the store.

        Raises:
            ConfigurationError: There is none, or it can't be opened.
            StorageError: It can't be reached, or is of another version.
        """
        ...

    async def close(self) -> None:
        """Finish the pending calls, notify the servers, and close the store. A second call does nothing."""
        ...

    def queue(self, name: str) -> StoredQueue:
        """Return a handle on a queue, whether it exists or not."""
        ...

    async def queues(self, *, after: str = "", max_queues: int = 1000, idle: bool = True) -> list[QueueRow]:
        """Return the states of queues whose names come after one, by name."""
        ...

    async def configurations(self) -> list[Configuration]:
        """Return the configuration of every queue that has one."""
        ...
