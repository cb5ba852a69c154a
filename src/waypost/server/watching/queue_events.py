"""What observers are told of queues; see `waypost.server.watching.hooks`."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ConsumerExpired", "MessageDied", "MessagesLost"]


@dataclass(frozen=True, slots=True)
class ConsumerExpired:
    """A consumer ended because no socket or worker was attached to it for too long.

    Attributes:
        queue: Its queue.
        consumer: Its name.
        waiting: How many messages it had not acknowledged.
        dead_letters: How many dead letters went with it.
    """

    queue: str
    consumer: str
    waiting: int
    dead_letters: int


@dataclass(frozen=True, slots=True)
class MessageDied:
    """A message became a dead letter.

    Attributes:
        queue: Its queue.
        consumer: The consumer that gave it up.
        id: The message's id.
        offset: Its place in the queue.
        reason: Why, in words.
    """

    queue: str
    consumer: str
    id: str
    offset: int
    reason: str


@dataclass(frozen=True, slots=True)
class MessagesLost:
    """A consumer lost messages that it had not acknowledged, to the limits of its queue.

    Its sockets are told by the event ``messages_lost``.

    Attributes:
        queue: The queue.
        consumer: The consumer's name.
        messages: How many.
        first_offset: The place of the first one.
        last_offset: The place of the last one.
    """

    queue: str
    consumer: str
    messages: int
    first_offset: int
    last_offset: int
