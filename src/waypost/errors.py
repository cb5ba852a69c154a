"""Every exception that Waypost raises, each with its data; the sentence is built from the data.

::

    WaypostError
    ├── ConfigurationError          an option that can't be what it is
    ├── ConnectionRefused           raised by the application to refuse a client
    ├── EventRefused                raised by the application to refuse an event of a client
    ├── ArgumentMismatch            an argument of an event does not fit its handler's annotation
    ├── Reject                      raised by the application to refuse a message of a queue
    ├── NotConnected                a socket that is gone was asked to do something
    ├── AckTimeout                  the other side did not acknowledge in time
    ├── EventRejected               the server will not handle an event of the outbox
    ├── EncodingFailed              a value that no packet can carry
    ├── ConnectFailed               the client did not get its connection
    ├── ProtocolViolation           what the other side sent breaks the protocol
    │   ├── MalformedPacket         it can't be read, or is not allowed here
    │   └── LimitExceeded           it is larger or more than is accepted
    └── StorageError
        ├── StoreClosed             used before it was opened or after it was closed
        ├── StoreBusy               another process owns the store
        ├── StoreDamaged            the file is no store, or a broken one
        ├── StoreFull               no space is left
        ├── QueueFull               the queue's limits leave no room for the message
        ├── OutboxFull              the client's outbox has no room for the event
        └── PositionGone            the journal no longer keeps that position
"""

from __future__ import annotations

from reprlib import Repr
from typing import Any

__all__ = [
    "AckTimeout",
    "ArgumentMismatch",
    "ConfigurationError",
    "ConnectFailed",
    "ConnectionRefused",
    "EncodingFailed",
    "EventRefused",
    "EventRejected",
    "LimitExceeded",
    "MalformedPacket",
    "NotConnected",
    "OutboxFull",
    "PositionGone",
    "ProtocolViolation",
    "QueueFull",
    "Reject",
    "StorageError",
    "StoreBusy",
    "StoreClosed",
    "StoreDamaged",
    "StoreFull",
    "WaypostError",
    "shorten",
]

_SHOWN_CHARACTERS = 60
_SHOWN_PROBLEM_CHARACTERS = 200
_OUTLINE = Repr()  # cuts what is long, many or deep


def shorten(value: object, limit: int = _SHOWN_CHARACTERS) -> str:
    """Show a value in an error or a log line without flooding it.

    Args:
        value: Anything with a ``repr``.
        limit: The longest text to return, in characters.

    Returns:
        The value's ``repr``, cut at ``limit`` with its full length named.
    """
    text = repr(value[: limit + 1]) if isinstance(value, str | bytes) else repr(value)
    if len(text) <= limit:
        return text
    size = f" ({len(value)} in all)" if isinstance(value, str | bytes) else ""
    return f"{text[:limit]}…{size}"


class WaypostError(Exception):
    """The root of the tree: catch this to catch whatever Waypost raises."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Constructors take other arguments than those kept in `args`, so copies are made from the data.
        return _rebuild, (type(self), self.args, dict(self.__dict__))


def _rebuild(kind: type[WaypostError], args: tuple[Any, ...], data: dict[str, Any]) -> WaypostError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(data)
    return error


class ConfigurationError(WaypostError):
    """An option can't be what it is.

    Attributes:
        option: The option's name.
        value: What it was set to.
        expected: What it takes, in words.
    """

    def __init__(self, option: str, value: object, expected: str) -> None:
        super().__init__(option, value, expected)
        self.option = option
        self.value = value
        self.expected = expected

    def __str__(self) -> str:
        return f"{self.option}={shorten(self.value)}: expected {self.expected}"


class ConnectionRefused(WaypostError):
    """Raise this in a middleware or connect handler to refuse a client.

    The client gets a CONNECT_ERROR packet, and its ``connect_error`` event has both values.

    Attributes:
        message: The text the client sees.
        data: Any encodable value for the client's ``err.data``; ``None`` sends none.
    """

    def __init__(self, message: str = "Connection refused", data: Any = None) -> None:
        super().__init__(message, data)
        self.message = message
        self.data = data

    def __str__(self) -> str:
        return self.message


class ArgumentMismatch(WaypostError):
    """An argument of an event does not fit the annotation of its handler's parameter; the handler was not called.

    Attributes:
        number: Which argument of the event, counted from 1.
        parameter: The parameter's name.
        expected: The annotation, in words.
        received: What came.
        problem: What about it does not fit, and where.
    """

    def __init__(self, number: int, parameter: str, expected: str, received: object, problem: str) -> None:
        super().__init__(number, parameter, expected, received, problem)
        self.number = number
        self.parameter = parameter
        self.expected = expected
        self.received = received
        self.problem = problem

    def __str__(self) -> str:
        came = _OUTLINE.repr(self.received)
        shown = _SHOWN_PROBLEM_CHARACTERS
        problem = self.problem if len(self.problem) <= shown else f"{self.problem[:shown]}…"
        return f"argument {self.number} ({self.parameter}): expected {self.expected}, received {came}: {problem}"

    def to_payload(self) -> dict[str, Any]:
        """Give it as the other side is told of it."""
        return {
            "error": str(self),
            "argument": self.number,
            "parameter": self.parameter,
            "expected": self.expected,
            "received": _OUTLINE.repr(self.received),
        }


class Reject(WaypostError):
    """Raise this in the handler of a queue's message to have it delivered again later.

    Any other exception rejects a message too; this one says why and when.

    Attributes:
        reason: Why, for the server's log and the dead letter.
        retry_in_s: Seconds until the next delivery; ``None`` leaves them to the server.
    """

    def __init__(self, reason: str, retry_in_s: float | None = None) -> None:
        super().__init__(reason, retry_in_s)
        self.reason = reason
        self.retry_in_s = retry_in_s

    def __str__(self) -> str:
        return f"rejected: {self.reason}"


class EventRefused(WaypostError):
    """Raise this in a middleware of a socket to refuse an event.

    No handler gets it. A client that asked for an ack gets ``{"error": message}``, with ``"data"`` if there is any.

    Attributes:
        message: The text the client sees.
        data: Any encodable value for the client; ``None`` sends none.
    """

    def __init__(self, message: str = "Event refused", data: Any = None) -> None:
        super().__init__(message, data)
        self.message = message
        self.data = data

    def __str__(self) -> str:
        return self.message


class NotConnected(WaypostError):
    """A socket that is not, or no longer, connected was asked to do something.

    Attributes:
        sid: The socket's id.
        namespace: Its namespace.
        action: What was asked.
    """

    def __init__(self, sid: str | None, namespace: str, action: str) -> None:
        super().__init__(sid, namespace, action)
        self.sid = sid
        self.namespace = namespace
        self.action = action

    def __str__(self) -> str:
        who = "the client" if self.sid is None else f"socket {self.sid}"
        return f"can't {self.action}: {who} is not connected to {self.namespace}"


class AckTimeout(WaypostError):
    """The other side did not acknowledge an event in time.

    Attributes:
        event: The event's name.
        timeout_s: How long was waited, in seconds.
    """

    def __init__(self, event: str, timeout_s: float) -> None:
        super().__init__(event, timeout_s)
        self.event = event
        self.timeout_s = timeout_s

    def __str__(self) -> str:
        return f"event {self.event!r} was not acknowledged within {self.timeout_s:g} s"


class EventRejected(WaypostError):
    """The server has not handled an event of the durable outbox, and it is given up.

    Attributes:
        event: The event's name.
        reason: Why, in the server's words.
        data: What its application says about it, or ``None``.
    """

    def __init__(self, event: str, reason: str, data: Any = None) -> None:
        super().__init__(event, reason, data)
        self.event = event
        self.reason = reason
        self.data = data

    def __str__(self) -> str:
        return f"the server does not handle event {self.event!r}: {self.reason}"


class EncodingFailed(WaypostError):
    """A value that no packet can carry.

    Attributes:
        what: The event or packet it was meant for.
        problem: Why it can't be encoded.
    """

    def __init__(self, what: str, problem: str) -> None:
        super().__init__(what, problem)
        self.what = what
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.what} can't be encoded: {self.problem}"


class ConnectFailed(WaypostError):
    """The client did not get its connection.

    Attributes:
        url: Where it wanted to connect.
        problem: What went wrong, in words.
        data: What a server that refused sent along, or ``None``.
        status: The HTTP status that stood in the way, or ``None``.
    """

    def __init__(self, url: str, problem: str, data: Any = None, status: int | None = None) -> None:
        super().__init__(url, problem, data, status)
        self.url = url
        self.problem = problem
        self.data = data
        self.status = status

    def __str__(self) -> str:
        return f"no connection to {self.url}: {self.problem}"


class ProtocolViolation(WaypostError):
    """What the other side sent breaks the protocol; its connection is closed, nobody else's."""


class MalformedPacket(ProtocolViolation):
    """A packet can't be read, or is not allowed where it came.

    Attributes:
        expected: What the protocol allows there.
        received: What came, whole; the sentence shows its beginning.
    """

    def __init__(self, expected: str, received: object) -> None:
        super().__init__(expected, received)
        self.expected = expected
        self.received = received

    def __str__(self) -> str:
        return f"expected {self.expected}, received {shorten(self.received)}"


class LimitExceeded(ProtocolViolation):
    """Something is larger, or more, than is accepted.

    Attributes:
        what: What is limited, in words.
        limit: The most that is accepted.
        received: How much came; as far as it was counted.
    """

    def __init__(self, what: str, limit: int, received: int) -> None:
        super().__init__(what, limit, received)
        self.what = what
        self.limit = limit
        self.received = received

    def __str__(self) -> str:
        return f"{self.what}: at most {self.limit} are accepted, received {self.received}"


class StorageError(WaypostError):
    """The store could not do what it was asked; nothing of the request was kept.

    Attributes:
        store: Which store, as it was configured.
        problem: What went wrong, in words.
    """

    def __init__(self, store: str, problem: str) -> None:
        super().__init__(store, problem)
        self.store = store
        self.problem = problem

    def __str__(self) -> str:
        return f"store {self.store}: {self.problem}"


class StoreClosed(StorageError):
    """The store was used before it was opened or after it was closed."""

    def __init__(self, store: str) -> None:
        super().__init__(store, "it is not open")


class StoreBusy(StorageError):
    """Another process owns the store; a store has one server at a time."""

    def __init__(self, store: str) -> None:
        super().__init__(store, "another process has it open; stop that one, or use another file")


class StoreDamaged(StorageError):
    """The file is no store of ours, or a broken one; it was left as it is."""


class StoreFull(StorageError):
    """No space is left where the store lives; it works again when there is."""

    def __init__(self, store: str) -> None:
        super().__init__(store, "no space left on its disk; free some, then it works again")


class QueueFull(StorageError):
    """A queue's limits leave no room for what was put into it; nothing of it was kept.

    Attributes:
        queue: The queue's name.
        messages: How many messages it keeps.
        bytes: The size of their records together.
        max_messages: How many it may keep.
        max_bytes: How large their records together may be.
    """

    def __init__(
        self, store: str, queue: str, messages: int, size_bytes: int, max_messages: int, max_bytes: int
    ) -> None:
        super().__init__(
            store,
            f"queue {queue} is full: it keeps {messages} messages of at most {max_messages}, and {size_bytes} bytes "
            f"of at most {max_bytes}; let its consumers catch up, or raise its limits",
        )
        self.queue = queue
        self.messages = messages
        self.bytes = size_bytes
        self.max_messages = max_messages
        self.max_bytes = max_bytes


class OutboxFull(StorageError):
    """A client's durable outbox has no room for an event; it was not kept.

    Attributes:
        event: The event's name.
        events: How many events wait.
        bytes: How large they are together.
        max_events: How many may wait.
        max_bytes: How large they may be together.
    """

    def __init__(self, store: str, event: str, events: int, size_bytes: int, max_events: int, max_bytes: int) -> None:
        super().__init__(
            store,
            f"there is no room for event {event!r}: {events} events wait of at most {max_events}, and {size_bytes} "
            f"bytes of at most {max_bytes}; let the client connect, or raise outbox_max_events or outbox_max_bytes",
        )
        self.event = event
        self.events = events
        self.bytes = size_bytes
        self.max_events = max_events
        self.max_bytes = max_bytes


class PositionGone(StorageError):
    """The journal no longer keeps what was asked for.

    Attributes:
        journal: The journal's name.
        asked: The position after which entries were asked for.
        oldest: The oldest position that is kept.
    """

    def __init__(self, store: str, journal: str, asked: int, oldest: int) -> None:
        super().__init__(store, f"journal {journal} keeps positions from {oldest}, asked after {asked}")
        self.journal = journal
        self.asked = asked
        self.oldest = oldest
