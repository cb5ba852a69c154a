"""The storage contract, its part about queues; `storage.base` has the guarantees that hold for it too."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Accepted", "ConsumerInfo", "Message", "Queue", "QueueInfo"]


@dataclass(frozen=True, slots=True)
class Accepted:
    """The answer to an enqueued message.

    Attributes:
        id: The message's id.
        position: Its position in the queue; of the first one, if it is a duplicate.
        duplicate: Whether the queue had accepted that id before, within the deduplication window.
    """

    id: str
    position: int
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a queue, as one consumer sees it.

    Attributes:
        position: Its position in the queue, from 1.
        id: Its id.
        record: What was enqueued.
        enqueued_at: When, as wall time in seconds.
        deliveries: How often a delivery of it to this consumer was counted as lost.
    """

    position: int
    id: str
    record: bytes
    enqueued_at: float
    deliveries: int


@dataclass(frozen=True, slots=True)
class ConsumerInfo:
    """A consumer's state.

    Attributes:
        name: Its name, unique in its queue.
        cursor: The position up to which every message is settled.
        waiting: How many messages are not settled.
    """

    name: str
    cursor: int
    waiting: int


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """A queue's state.

    Attributes:
        name: Its name.
        top: The position of its newest message ever, 0 for none.
        messages: How many messages it keeps.
        bytes: The size of their records together.
        oldest_at: When the oldest kept message was enqueued, as wall time in seconds; ``None`` if empty.
        consumers: Its consumers, by name.
    """

    name: str
    top: int
    messages: int
    bytes: int
    oldest_at: float | None
    consumers: tuple[ConsumerInfo, ...]


class Queue(Protocol):
    """A durable log of messages and its consumers. Made by `Store.queue`; holds no state.

    What is asked for an unknown consumer raises `StorageError`.
    """

    @property
    def name(self) -> str:
        """The name it was asked for by."""
        ...

    async def enqueue(
        self, message_id: str, record: bytes, *, deduplicate_s: float, on_commit: Callable[[Accepted], None]
    ) -> Accepted:
        """Add a message, unless its id was accepted within the last ``deduplicate_s`` seconds.

        A queue begins with its first message or consumer. ``on_commit`` is called with what is returned.
        """
        ...

    async def add_consumer(self, consumer: str) -> ConsumerInfo:
        """Return a consumer, made if need be: a new one starts at the oldest message the queue keeps."""
        ...

    async def fetch(self, consumer: str, *, after: int, max_messages: int, max_bytes: int) -> list[Message]:
        """Read a consumer's unsettled messages after a position, oldest first.

        Args:
            consumer: An existing consumer.
            after: The position before the first one wanted.
            max_messages: The most to return, from 1.
            max_bytes: Stop before their records exceed this; the first one is always returned.

        Returns:
            The messages. Fetching marks nothing: who is given what is for the caller to remember.
        """
        ...

    async def settle(self, consumer: str, positions: Collection[int]) -> ConsumerInfo:
        """Mark messages as done for a consumer; those that were settled already are ignored.

        Messages that every consumer has settled are removed.
        """
        ...

    async def count_delivery(self, consumer: str, position: int) -> None:
        """Count a delivery that was lost against an unsettled message."""
        ...

    async def info(self) -> QueueInfo:
        """Return the queue's state, all zero for one that does not exist."""
        ...
