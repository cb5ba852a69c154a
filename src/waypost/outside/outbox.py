"""The way from a program without a server to the servers: what each kind of store offers for it."""

from __future__ import annotations

from typing import Protocol

from waypost.protocol.codec import EncodedEvent
from waypost.server.basics.targets import Target
from waypost.storage.outside import OutsideWrite
from waypost.storage.queue_records import NewMessageRow

__all__ = ["Outbox"]


class Outbox(Protocol):
    """Takes what a program wants done, and keeps it until the servers have done it.

    Each method returns when the store has taken the request for good, in the order of the calls. A cancelled call may
    have been taken.
    """

    async def emit(
        self, namespace: str, target: Target, event: EncodedEvent, *, write_id: str, window_s: float
    ) -> None:
        """Take an event.

        Args:
            namespace: The namespace.
            target: The recipients.
            event: The event.
            write_id: Its id; empty for none.
            window_s: The time within which a second event of that id is a repeat, in seconds.

        Raises:
            StorageError: The store did not take it.
        """
        ...

    async def change(self, write: OutsideWrite) -> None:
        """Take a change of rooms or sessions.

        Raises:
            StorageError: The store did not take it.
        """
        ...

    async def publish(self, queue: str, message: NewMessageRow, *, has_own_id: bool) -> None:
        """Take a message for a queue.

        Args:
            queue: The queue's name.
            message: The message.
            has_own_id: Whether the application chose its id, so that a second one of it is a repeat.

        Raises:
            QueueFull: The queue has reached its limits.
            StorageError: The store did not take it.
        """
        ...

    async def close(self) -> None:
        """Let go of the store. A later call opens it again."""
        ...
