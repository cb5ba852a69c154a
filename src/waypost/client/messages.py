"""Messages of queues, as the client's handlers and loops see them."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime

from waypost.protocol.extension import DeliveryMark

__all__ = ["HANDLED", "ReceivedMessage", "received_message"]


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """A queue's message as a client sees it, beside its event and arguments.

    Attributes:
        queue: The queue's name.
        consumer: The name of the consumer that gets the message.
        id: The message's id, the same at each delivery.
        offset: The message's offset in the queue.
        attempt: The number of this delivery, from 1.
        enqueued_at: The time at which the message got its offset; ``None`` if the server does not tell.
        headers: The message's headers.
    """

    queue: str
    consumer: str
    id: str
    offset: int
    attempt: int
    enqueued_at: datetime | None
    headers: Mapping[str, str]


def received_message(mark: DeliveryMark) -> ReceivedMessage:
    """Return what a mark tells of a message."""
    at = mark.enqueued_at
    return ReceivedMessage(
        mark.queue,
        mark.consumer,
        mark.id,
        mark.position,
        mark.attempt,
        None if at is None else datetime.fromtimestamp(at, UTC),
        mark.headers or {},
    )


HANDLED: ContextVar[tuple[object, ReceivedMessage] | None] = ContextVar("HANDLED", default=None)
"""The message whose handler runs, and the `Handlers` that the handler belongs to."""
