"""The public queue: messages that wait until they are acknowledged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from waypost.errors import ConfigurationError
from waypost.storage.queue_records import ConsumerInfo, Enqueued, NewMessage, QueueInfo

if TYPE_CHECKING:
    from waypost.server.hub import Hub

__all__ = ["Queue"]


class Queue:
    """A durable, ordered log of messages for whoever is not there yet. Made by `waypost.Server.queue`.

    A handle without state of its own: make one whenever you need it. A queue begins with its first message.
    """

    __slots__ = ("_hub", "_name")

    def __init__(self, name: str, hub: Hub) -> None:
        if not name:
            raise ConfigurationError("queue", name, "a name that is not empty")
        self._name = name
        self._hub = hub

    def __repr__(self) -> str:
        return f"<Queue {self._name}>"

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    async def emit(self, event: str, *args: Any, id: str | None = None) -> str:
        """Put a message into the queue.

        Args:
            event: The event that its consumers get; none of Socket.IO's reserved names.
            args: The event's arguments: whatever JSON can carry, and ``bytes`` anywhere in it.
            id: The message's id. The same id is accepted once within the server's ``deduplication_s``: a repeat
                changes nothing. ``None`` makes a new one.

        Returns:
            The message's id, once the message is on disk (as far as the store is durable).

        Raises:
            EncodingFailed: An argument can't be encoded.
            StorageError: The store did not take it; it is not in the queue.

        Delivery: at least once, in order, to every consumer of the queue, until each has acknowledged it. If this
        is cancelled, the message may be in the queue all the same; repeat it with the same ``id``.
        """
        record = self._hub.codec.encode_event("/", event, args).to_record()

        def on_commit(enqueued: Enqueued) -> None:
            if not enqueued.accepted[0].duplicate:
                self._hub.deliveries.announce(self._name)

        message = NewMessage(self._hub.environment.new_id() if id is None else id, record)
        enqueued = await self._hub.store.queue(self._name).enqueue(
            [message], deduplicate_s=self._hub.options.deduplication_s, on_commit=on_commit
        )
        return enqueued.accepted[0].id

    async def info(self) -> QueueInfo:
        """Return how much is in the queue."""
        return await self._hub.store.queue(self._name).info()

    async def consumers(self) -> list[ConsumerInfo]:
        """Return how far each consumer is; the first 1,000 by name."""
        return await self._hub.store.queue(self._name).consumers()
