"""The JSON objects of the HTTP API's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Self

import msgspec

from waypost.server.queues.consumer import ConsumerInfo
from waypost.server.queues.message import DeadLetter, QueuedMessage
from waypost.server.queues.queue_info import QueueInfo

__all__ = [
    "BatchResults",
    "CommandResult",
    "Discarded",
    "Done",
    "Emitted",
    "JournalNumbers",
    "LetterList",
    "ListedSocket",
    "MessageList",
    "Problem",
    "Published",
    "Purged",
    "QueueDetails",
    "QueueList",
    "QueueNumbers",
    "Redriven",
    "ServerNumbers",
    "SocketList",
]


class Done(msgspec.Struct):
    """An operation that has no more to tell than that it was done."""


class Emitted(msgspec.Struct):
    """The result of an emit.

    Attributes:
        duplicate: True if the namespace is known to have had an event of that id; no client gets it again. On
            PostgreSQL a repeat that comes within moments may say false, and still reaches no client again.
    """

    duplicate: bool


class Published(msgspec.Struct):
    """The result of a message for a queue.

    Attributes:
        id: The message's id.
        offset: Its offset in the queue; 0 for a delayed message, which gets its offset when it is due.
        duplicate: True if the queue had accepted that id before. The offset is that of the first message then, and
            nothing was added.
    """

    id: str
    offset: int
    duplicate: bool


class ListedSocket(msgspec.Struct):
    """A socket that is connected.

    Attributes:
        id: Its id.
        rooms: Its rooms that the key may use, sorted.
        server: The name of the server that has it; empty without a cluster.
    """

    id: str
    rooms: Sequence[str]
    server: str


class SocketList(msgspec.Struct):
    """A page of sockets.

    Attributes:
        sockets: The sockets, by id.
        missing_servers: The servers of a cluster that did not answer; their sockets are not listed.
    """

    sockets: Sequence[ListedSocket]
    missing_servers: Sequence[str]


class QueueNumbers(msgspec.Struct):
    """A queue's state in numbers. All are zero for a queue that does not exist.

    Attributes:
        name: The queue's name.
        messages: The number of messages that are due.
        delayed: The number of messages that are not due yet.
        bytes: The size of both together, in bytes.
        newest_offset: The offset of the newest message the queue ever had; 0 for none.
        oldest_at: The time at which the oldest message got its offset; null for an empty queue.
        consumers: The number of consumers.
        in_flight: The number of messages that are delivered and not acknowledged yet, over all consumers.
        dead_letters: The number of dead letters, over all consumers.
        expired: The number of messages that have ever outlived their time to live.
        dropped: The number of messages that the queue's limits have ever removed.
        paused_until: The time at which the pause of all consumers ends; null if the queue is not paused.
        delivered_per_s: Deliveries per second, over the last 10 to 20 seconds.
        acknowledged_per_s: Acks per second, measured alike.
        redelivered_per_s: Failed deliveries per second, measured alike.
    """

    name: str
    messages: int
    delayed: int
    bytes: int
    newest_offset: int
    oldest_at: datetime | None
    consumers: int
    in_flight: int
    dead_letters: int
    expired: int
    dropped: int
    paused_until: datetime | None
    delivered_per_s: float
    acknowledged_per_s: float
    redelivered_per_s: float

    @classmethod
    def of(cls, info: QueueInfo) -> Self:
        """Return the numbers of a queue."""
        return cls(**info._asdict())


class QueueList(msgspec.Struct):
    """A page of queues.

    Attributes:
        queues: The queues, by name.
    """

    queues: Sequence[QueueNumbers]


class QueueDetails(msgspec.Struct):
    """A queue.

    Attributes:
        queue: Its numbers.
        consumers: Its first 100 consumers, by name.
    """

    queue: QueueNumbers
    consumers: Sequence[ConsumerInfo]


class MessageList(msgspec.Struct):
    """A page of messages.

    Attributes:
        messages: The messages, by offset.
    """

    messages: Sequence[QueuedMessage]


class LetterList(msgspec.Struct):
    """A page of dead letters.

    Attributes:
        dead_letters: The dead letters, by number.
    """

    dead_letters: Sequence[DeadLetter]


class Discarded(msgspec.Struct):
    """The result of a deletion.

    Attributes:
        discarded: The number of dead letters that are deleted.
    """

    discarded: int


class Redriven(msgspec.Struct):
    """The result of a redrive.

    Attributes:
        redriven: The number of dead letters that are messages again.
    """

    redriven: int


class Purged(msgspec.Struct):
    """The result of a purge.

    Attributes:
        purged: The number of messages that are removed.
    """

    purged: int


class JournalNumbers(msgspec.Struct):
    """The size of a namespace's journal.

    Attributes:
        events: The number of events that it keeps.
        bytes: Their size, in bytes.
    """

    events: int
    bytes: int


class ServerNumbers(msgspec.Struct):
    """The numbers of a server, or of all servers of a cluster.

    Attributes:
        phase: The phase of the server that was asked, such as ready.
        is_ready: Whether that server can serve new clients as it should.
        troubles: The codes of the troubles of its store.
        connections: The number of connections.
        sockets: The number of sockets, by namespace.
        journals: The sizes of the journals, by namespace.
        server: The name of the server that was asked; empty without a cluster.
    """

    phase: str
    is_ready: bool
    troubles: Sequence[str]
    connections: int
    sockets: Mapping[str, int]
    journals: Mapping[str, JournalNumbers]
    server: str


class CommandResult(msgspec.Struct, omit_defaults=True):
    """The result of a command of a batch, which stands at the same place as the command.

    Attributes:
        status: The status that a request of its own would have got.
        answer: The answer; without one, the command has failed.
        problem: The problem; without one, the command was done.
    """

    status: int
    answer: Mapping[str, Any] | msgspec.UnsetType = msgspec.UNSET
    problem: Mapping[str, Any] | msgspec.UnsetType = msgspec.UNSET


class BatchResults(msgspec.Struct):
    """The results of a batch.

    Attributes:
        results: The result of each command.
    """

    results: Sequence[CommandResult]


class Problem(msgspec.Struct, omit_defaults=True):
    """An error (RFC 9457). Some codes have further members.

    Attributes:
        type: The code as a URI.
        title: The code in words.
        status: The HTTP status.
        code: The stable name of the error.
        detail: What was expected, what came, and what to do.
        retry_after_s: Whole seconds after which to try again, as the header Retry-After.
    """

    type: str
    title: str
    status: int
    code: str
    detail: str
    retry_after_s: int | msgspec.UnsetType = msgspec.UNSET
