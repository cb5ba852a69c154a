"""Logs which consumers have a message that is not acknowledged in time, as of a client that forgets its callback."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from waypost.errors import MalformedPacket, StorageError, shorten
from waypost.logs import fields, get_logger
from waypost.protocol.records import read_values
from waypost.server.queues.delivery import Delivery
from waypost.storage.queue_base import StoredQueue

__all__ = ["OverdueLog"]

logger = get_logger("waypost.queue")

_PAUSE_S = 3600.0


class OverdueLog:
    """Logs one line an hour for each consumer.

    Args:
        keep_task: Holds on to a task until it is done.
    """

    __slots__ = ("_keep_task", "_told")

    def __init__(self, keep_task: Callable[[asyncio.Task[Any]], None]) -> None:
        self._keep_task = keep_task
        # When each consumer was logged, oldest first.
        self._told: dict[tuple[str, str], float] = {}

    def tell(self, queue: StoredQueue, consumer: str, delivery: Delivery, *, lease_s: float, now: float) -> None:
        """Log a delivery that was not answered within a lease, unless its consumer was logged in the last hour."""
        key = (queue.name, consumer)
        while self._told and next(iter(self._told.values())) <= now - _PAUSE_S:
            del self._told[next(iter(self._told))]
        if key not in self._told:
            self._told[key] = now
            self._keep_task(asyncio.get_running_loop().create_task(self._log(queue, consumer, delivery, lease_s)))

    async def _log(self, queue: StoredQueue, consumer: str, delivery: Delivery, lease_s: float) -> None:
        message, event = delivery.message, _event(delivery.message.record)
        try:
            # Only the store knows of all messages that have come since.
            waiting = str(max((await queue.consumer(consumer)).waiting - 1, 0))
        except StorageError:
            waiting = "an unknown number of"
        logger.warning(
            "queue %r, consumer %r: socket %s has not acknowledged message %s (event %s) within %g s, and %s "
            "messages wait behind it: is a handler registered for the event, and does it call its callback?",
            queue.name, consumer, delivery.attachment.carrier.label, message.id, shorten(event), lease_s, waiting,
            extra=fields(
                queue=queue.name, consumer=consumer, message_id=message.id,
                sid=delivery.attachment.carrier.label, event=event,
            ),
        )  # fmt: skip


def _event(record: bytes) -> str:
    try:
        return str(read_values(record)[0])
    except MalformedPacket:
        return ""
