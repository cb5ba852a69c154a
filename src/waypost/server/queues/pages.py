"""Reads from the store, in pages, what a delivery order wants of one consumer's messages."""

from __future__ import annotations

from math import inf

from waypost.server.queues.orders.delivery_order import Read, ReadKey, ReadOn
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import MessageRow

__all__ = ["Pages"]

_FEWEST, _MOST = 32, 256
_MOST_BYTES = 1 << 20
_MOST_KEY_BYTES = 1 << 16


class Pages:
    """Reads a consumer's messages in pages, which grow as long as they are full.

    Args:
        queue: The stored queue.
        consumer: The consumer.
    """

    __slots__ = ("_consumer", "_queue", "_size")

    def __init__(self, queue: StoredQueue, consumer: str) -> None:
        self._queue = queue
        self._consumer = consumer
        self._size = _FEWEST

    async def read(self, read: Read) -> tuple[list[MessageRow], float]:
        """Read messages from the store.

        Args:
            read: The messages that the delivery order wants.

        Returns:
            The messages; and for retries the store's time at which the next one is due, else infinity.

        Raises:
            StorageError: The store did not answer.
        """
        if isinstance(read, ReadOn):
            size = self._size
            messages = await self._queue.fetch(
                self._consumer, after=read.after, max_messages=size, max_bytes=_MOST_BYTES
            )
            self._size = min(2 * size, _MOST) if len(messages) == size else _FEWEST
            return messages, inf
        if isinstance(read, ReadKey):
            messages = await self._queue.fetch_key(
                self._consumer,
                read.key,
                after=read.after,
                upto=read.upto,
                max_messages=_FEWEST,
                max_bytes=_MOST_KEY_BYTES,
            )
            return messages, inf
        retries = await self._queue.fetch_retries(
            self._consumer,
            upto=read.upto,
            held=read.excluding,
            max_messages=_MOST,
            max_bytes=_MOST_BYTES,
        )
        return list(retries.messages), inf if retries.next_at is None else retries.next_at
