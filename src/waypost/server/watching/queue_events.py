"""The events of queues for observers; see `waypost.server.watching.hooks`."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ConsumerExpired", "MessageDied", "MessagesLost"]


@dataclass(frozen=True, slots=True)
class ConsumerExpired:
    """A consumer ended because no socket or worker was attached to it for too long.

    Attributes:
        queue: The queue's name.
        consumer: The consumer's name.
        waiting: The number of messages that it had not acknowledged.
        dead_letters: The number of its dead letters, which are removed too.
    """

    queue: str
    consumer: str
    waiting: int
    dead_letters: int


@dataclass(frozen=True, slots=True)
class MessageDied:
    """A message became a dead letter.

    Attributes:
        queue: The queue's name.
        consumer: The name of the consumer that could not handle it.
        id: The message's id.
        offset: The message's place in the queue.
        reason: The reason, in words.
    """

    queue: str
    consumer: str
    id: str
    offset: int
    reason: str


@dataclass(frozen=True, slots=True)
class MessagesLost:
    """A consumer lost unacknowledged messages because its queue reached its limits.

    The event ``messages_lost`` tells its sockets.

    Attributes:
        queue: The queue's name.
        consumer: The consumer's name.
        messages: The number of lost messages.
        first_offset: The place of the first one.
        last_offset: The place of the last one.
    """

    queue: str
    consumer: str
    messages: int
    first_offset: int
    last_offset: int
