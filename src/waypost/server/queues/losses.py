"""Tells consumers which messages they lost to the limits of their queue, until a socket has acknowledged that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from waypost.errors import StorageError
from waypost.logs import fields, get_logger
from waypost.server.queues.takers import Takers
from waypost.server.watching.hooks import Hooks
from waypost.server.watching.queue_events import MessagesLost
from waypost.storage.queue_records import ConsumerRow

__all__ = ["Losses"]

logger = get_logger("waypost.queue")


class LosingConsumer(Protocol):
    """A consumer that may lose messages to its queue's limits."""

    @property
    def queue_name(self) -> str:
        """The queue's name."""
        ...

    @property
    def row(self) -> ConsumerRow:
        """The consumer, as it was last seen in the store."""
        ...

    @property
    def takers(self) -> Takers:
        """The sockets and workers that are attached, in the order of arrival."""
        ...

    async def forget_loss(self, upto: int) -> None:
        """Note that the consumer knows of its losses up to a position.

        Raises:
            StorageError: The store could not write that.
        """
        ...


class Losses:
    """The losses that consumers have not acknowledged yet.

    Args:
        keep_task: Holds on to a task until it is done.
        hooks: Tells the application's observers, too.
    """

    def __init__(self, keep_task: Callable[[asyncio.Task[Any]], None], hooks: Hooks) -> None:
        self._keep_task = keep_task
        self._hooks = hooks
        self._telling: set[LosingConsumer] = set()
        self._asked_again: set[LosingConsumer] = set()
        self._told: dict[LosingConsumer, MessagesLost] = {}

    def tell(self, consumer: LosingConsumer) -> None:
        """Report a consumer's loss to observers once, and tell one of the sockets and workers that are attached."""
        lost = consumer.row.lost
        if lost is None:
            self._told.pop(consumer, None)
            return
        notice = MessagesLost(consumer.queue_name, consumer.row.name, lost.messages, lost.first, lost.last)
        if self._told.get(consumer) != notice:
            self._told[consumer] = notice
            self._report(notice)
        if consumer in self._telling:
            # A socket that has just come may be the only one left that can be told.
            self._asked_again.add(consumer)
        elif len(consumer.takers):
            self._telling.add(consumer)
            self._keep_task(asyncio.get_running_loop().create_task(self._tell(consumer, notice)))

    def forget_all(self) -> None:
        """Forget what was told."""
        self._telling.clear()
        self._asked_again.clear()
        self._told.clear()

    def forget(self, consumer: LosingConsumer) -> None:
        """Forget a consumer that nothing is attached to. An unacknowledged loss is told again later."""
        self._told.pop(consumer, None)

    def _report(self, notice: MessagesLost) -> None:
        logger.warning(
            "queue %r: consumer %r lost %d messages, from %d to %d, to the queue's limits: max_age_s, max_messages "
            "and max_bytes of its options set them",
            notice.queue, notice.consumer, notice.messages, notice.first_offset, notice.last_offset,
            extra=fields(
                queue=notice.queue, consumer=notice.consumer,
                count=notice.messages, position=notice.first_offset,
            ),
        )  # fmt: skip
        if self._hooks.messages_lost.observers:
            self._hooks.messages_lost.tell(notice)

    async def _tell(self, consumer: LosingConsumer, notice: MessagesLost) -> None:
        is_told = False
        try:
            for attachment in reversed(list(consumer.takers)):
                if attachment.carrier.is_live and await attachment.carrier.tell_loss(notice):
                    await consumer.forget_loss(notice.last_offset)
                    is_told = True
                    break
        except StorageError as problem:
            logger.error(
                "queue %r: a notice of loss stays: %s",
                notice.queue,
                problem,
                extra=fields(queue=notice.queue, consumer=notice.consumer),
            )
        finally:
            self._telling.discard(consumer)
            was_asked_again = consumer in self._asked_again
            self._asked_again.discard(consumer)
        if is_told or was_asked_again:
            # The consumer may have lost more messages since the notice was sent.
            self.tell(consumer)
