"""Every exception that Waypost raises. Each error carries its data, and its sentence is built from that data.

::

    WaypostError
    ├── ConfigurationError          an option has a value that it does not accept
    ├── ConnectionRefused           raised by the application to refuse a client
    ├── EventRefused                the server does not handle an event of a client
    ├── ArgumentMismatch            an argument of an event does not fit its handler's annotation
    ├── Reject                      raised by the application to refuse a message of a queue
    ├── NotConnected                a call needed a socket that is not connected
    ├── WrongEventLoop              a method was called on another event loop than the server's or the client's
    ├── AckTimeout                  the other side did not acknowledge in time
    ├── AnswerMismatch              an answer is not of the type that the caller named
    ├── EncodingFailed              no packet can carry the value
    ├── ConnectFailed               the client got no connection
    ├── ProtocolViolation           the other side broke the protocol
    │   ├── MalformedPacket         a packet is unreadable, or not allowed at this point
    │   └── LimitExceeded           the input exceeds a limit
    └── StorageError
        ├── StoreClosed             the store is not open
        │   └── StoreLost           its file was removed or cut short, or another server has taken it over
        ├── StoreBusy               another process has the store open
        ├── StoreDamaged            the file is no store, or it is damaged
        ├── StoreFull               the disk is full
        ├── StorageUncertain        it is not known whether the store has done it
        ├── QueueFull               the queue has reached its limits
        ├── OutboxFull              the client's outbox has reached its limits
        └── PositionGone            the journal no longer keeps that position
"""

from __future__ import annotations

from datetime import UTC, datetime
from reprlib import Repr
from typing import Any, Literal

__all__ = [
    "AckTimeout",
    "AnswerMismatch",
    "ArgumentMismatch",
    "ConfigurationError",
    "ConnectFailed",
    "ConnectionRefused",
    "EncodingFailed",
    "EventRefused",
    "LimitExceeded",
    "MalformedPacket",
    "NotConnected",
    "OutboxFull",
    "PositionGone",
    "ProtocolViolation",
    "QueueFull",
    "Reject",
    "StorageError",
    "StorageUncertain",
    "StoreBusy",
    "StoreClosed",
    "StoreDamaged",
    "StoreFull",
    "StoreLost",
    "WaypostError",
    "WrongEventLoop",
    "shorten",
]

_SHOWN_CHARACTERS = 60
_SHOWN_PROBLEM_CHARACTERS = 200
_OUTLINE = Repr()  # cuts long, large and deeply nested values


def shorten(value: object, limit: int = _SHOWN_CHARACTERS) -> str:
    """Return a value's ``repr``, short enough for an error message or a log line.

    Args:
        value: Any value with a ``repr``.
        limit: The longest text to return, in characters, from 1.

    Returns:
        The ``repr``. A longer one is cut at ``limit`` characters; text and bytes then get their full length appended.
    """
    try:
        text = repr(value[: limit + 1]) if isinstance(value, str | bytes) else repr(value)
    except ValueError:  # Python writes no number of more than some thousand digits
        text = f"<{type(value).__name__}>"
    if len(text) <= limit:
        return text
    size = f" ({len(value)} in all)" if isinstance(value, str | bytes) else ""
    return f"{text[:limit]}…{size}"


def _cut(problem: str) -> str:
    return problem if len(problem) <= _SHOWN_PROBLEM_CHARACTERS else f"{problem[:_SHOWN_PROBLEM_CHARACTERS]}…"


def _misfit(expected: str, received: object, fault: str) -> str:
    """Return the reason why a value does not fit a type, without the value."""
    sentence = f"expected {expected}, received {type(received).__name__}"
    return f"{sentence}: {_cut(fault)}" if fault else sentence


class WaypostError(Exception):
    """The root of the tree: ``except WaypostError`` catches every error that Waypost raises."""

    def __reduce__(self) -> tuple[Any, ...]:
        # `args` may differ from the constructor's arguments, so pickle and copy rebuild an error from its data.
        return _rebuild, (type(self), self.args, dict(self.__dict__))


def _rebuild(kind: type[WaypostError], args: tuple[Any, ...], data: dict[str, Any]) -> WaypostError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(data)
    return error


class ConfigurationError(WaypostError):
    """An option or an argument has a value that it does not accept, or no option has that name.

    Attributes:
        option: The option's name.
        value: The value that it was given; only the name of its type, if the value may be a secret.
        expected: The values that it accepts, in words.
        suggestion: The known name or value that was probably meant; ``None`` if none is close.
    """

    def __init__(self, option: str, value: object, expected: str, *, suggestion: str | None = None) -> None:
        super().__init__(option, value, expected)
        self.option = option
        self.value = value
        self.expected = expected
        self.suggestion = suggestion

    def __str__(self) -> str:
        meant = f"; did you mean {self.suggestion}?" if self.suggestion else ""
        return f"{self.option}={shorten(self.value)}: expected {self.expected}{meant}"


class ConnectionRefused(WaypostError):
    """Raise this in a middleware or a connect handler to refuse a client.

    The server answers CONNECT_ERROR, and the client's ``connect_error`` event gets both values.

    Attributes:
        message: The text for the client.
        data: Any encodable value for the client's ``err.data``; ``None`` sends no data.
    """

    def __init__(self, message: str = "Connection refused", data: Any = None) -> None:
        super().__init__(message, data)
        self.message = message
        self.data = data

    def __str__(self) -> str:
        return str(self.message)


class ArgumentMismatch(WaypostError):
    """An argument of an event does not fit the annotation of its handler's parameter. The handler was not called.

    Attributes:
        number: The argument's number, counted from 1.
        parameter: The parameter's name.
        expected: The annotation, in words.
        received: The argument that arrived.
        problem: The part of the argument that does not fit, and the reason; may quote what arrived.
        fault: The same with types and names only; ``""`` if that says nothing. The sentence shows this one, because
            the argument may be a secret, and sentences end up in logs.
    """

    def __init__(
        self, number: int, parameter: str, expected: str, received: object, problem: str, *, fault: str = ""
    ) -> None:
        super().__init__(number, parameter, expected, received, problem)
        self.number = number
        self.parameter = parameter
        self.expected = expected
        self.received = received
        self.problem = problem
        self.fault = fault

    def __str__(self) -> str:
        misfit = _misfit(self.expected, self.received, self.fault)
        return f"argument {self.number} ({self.parameter}): {misfit}"

    def to_payload(self) -> dict[str, Any]:
        """Return the data of the refusal that the client gets.

        Returns:
            An object with ``argument`` (its number), ``parameter``, ``expected``, ``received`` and ``problem``. It
            quotes what the client sent, so it is for that client only.
        """
        return {
            "argument": self.number,
            "parameter": self.parameter,
            "expected": self.expected,
            "received": _OUTLINE.repr(self.received),
            "problem": _cut(self.problem),
        }


class Reject(WaypostError):
    """Raise this in the handler of a queue's message to refuse it; the queue delivers it again later.

    Any other exception refuses the message too. `Reject` adds a reason and a delay, or asks for none.

    Attributes:
        reason: The reason, for the server's log and the dead letter.
        retry_in_s: Seconds until the next delivery, from 0; ``None`` uses the queue's retry delay.
        final: True if the message is not to be delivered again: it is a dead letter at once.
    """

    def __init__(self, reason: str, retry_in_s: float | None = None, *, final: bool = False) -> None:
        super().__init__(reason, retry_in_s)
        self.reason = reason
        self.retry_in_s = retry_in_s
        self.final = final

    def __str__(self) -> str:
        return f"rejected: {self.reason}"


class EventRefused(WaypostError):
    """The server does not handle an event; raised on the server to say so, and at the client that sent the event.

    A handler, or a middleware of a socket, raises it to refuse the event. The server itself refuses events whose
    arguments do not fit their handler. An official client's callback then gets ``{"error": message, "data": data}``,
    without ``data`` if there is none; with `waypost.Client`, `Client.call` raises it, and ``on_undelivered`` gets it.

    Attributes:
        message: Why, for the client to read.
        data: Any encodable value for the client; ``None`` sends none.
        is_final: Whether the event would be refused again. If not, a client that keeps events sends it again later.
            The client also gets False when the handler failed with another exception, whose type ``message`` names.
    """

    def __init__(self, message: str = "Event refused", data: Any = None, *, is_final: bool = True) -> None:
        super().__init__(message, data)
        self.message = message
        self.data = data
        self.is_final = is_final

    def __str__(self) -> str:
        return str(self.message)


class NotConnected(WaypostError):
    """A call needed a connected socket, and the socket is not connected or no longer connected.

    Attributes:
        socket_id: The socket's id; ``None`` on the client's side.
        namespace: The socket's namespace.
        action: The call that failed, in words.
    """

    def __init__(self, socket_id: str | None, namespace: str, action: str) -> None:
        super().__init__(socket_id, namespace, action)
        self.socket_id = socket_id
        self.namespace = namespace
        self.action = action

    def __str__(self) -> str:
        who = "the client" if self.socket_id is None else f"socket {self.socket_id}"
        return f"can't {self.action}: {who} is not connected to {self.namespace}; check `connected` first"


class WrongEventLoop(WaypostError):
    """A method was called on another event loop than that of its server, its client or its emitter.

    Attributes:
        action: The method.
        is_closed: Whether the right event loop has ended; for a server, without a `waypost.Server.close` before.
        is_asyncio: Whether the method was called on an event loop of asyncio's.
        owner: ``"server"``, ``"client"`` or ``"emitter"``.
    """

    def __init__(
        self,
        action: str,
        *,
        is_closed: bool = False,
        is_asyncio: bool = True,
        owner: Literal["server", "client", "emitter"] = "server",
    ) -> None:
        super().__init__(action)
        self.action = action
        self.is_closed = is_closed
        self.is_asyncio = is_asyncio
        self.owner = owner

    def __str__(self) -> str:
        if not self.is_asyncio:
            return (
                f"{self.action} expected an event loop of asyncio's, and came without one; with anyio, choose the"
                " backend asyncio; with trio, use waypost.sync.Client in a thread, or io.from_thread"
            )
        if self.owner == "emitter":
            return (
                f"{self.action} expected the event loop on which the emitter is in use, and came on another; nothing"
                " was done; make an emitter for each event loop, or use waypost.sync.Emitter in threads"
            )
        if self.owner == "client":
            end = ", which has ended" if self.is_closed else ""
            return (
                f"{self.action} expected the event loop on which the client was used first{end}, and came on another;"
                " nothing was done; make a client for each event loop, and use waypost.sync.Client in threads"
            )
        if self.is_closed:
            return (
                f"{self.action} expected a server that was closed: the event loop that it was started on has ended;"
                " await its close() there first, as `with TestClient(app) as client:` does"
            )
        return (
            f"{self.action} expected to be called on the event loop that the server runs on, and came on another;"
            " nothing was done; in a thread, io.from_thread.emit(…) and the like take a call to that loop"
        )


class AckTimeout(WaypostError):
    """The other side did not acknowledge an event in time.

    Attributes:
        event: The event's name.
        timeout_s: The time limit, in seconds.
    """

    def __init__(self, event: str, timeout_s: float) -> None:
        super().__init__(event, timeout_s)
        self.event = event
        self.timeout_s = timeout_s

    def __str__(self) -> str:
        return f"event {self.event!r} was not acknowledged within {self.timeout_s:g} s; it may have been handled"


class AnswerMismatch(WaypostError):
    """The answer of a call does not fit the type that the caller named.

    Attributes:
        event: The event's name.
        expected: The type, in words.
        received: The answer that arrived.
        problem: The part of the answer that does not fit, and the reason; may quote the answer.
        fault: The same with types and names only; ``""`` if that says nothing. The sentence shows this one, because
            the answer may be a secret, and sentences end up in logs.
    """

    def __init__(self, event: str, expected: str, received: object, problem: str, *, fault: str = "") -> None:
        super().__init__(event, expected, received, problem)
        self.event = event
        self.expected = expected
        self.received = received
        self.problem = problem
        self.fault = fault

    def __str__(self) -> str:
        return f"the answer to {self.event!r}: {_misfit(self.expected, self.received, self.fault)}"


class EncodingFailed(WaypostError):
    """No packet can carry a value.

    Attributes:
        what: The event or packet that contains the value.
        problem: The reason why it can't be encoded.
    """

    def __init__(self, what: str, problem: str) -> None:
        super().__init__(what, problem)
        self.what = what
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.what} can't be encoded: {self.problem}"


class ConnectFailed(WaypostError):
    """The client got no connection to the server.

    Attributes:
        url: The server's URL.
        problem: The reason, in words.
        data: Data that a refusing server sent along, or ``None``.
        status: The HTTP status of the server's answer, or ``None`` if there was no HTTP error.
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
    """The other side broke the protocol. Its connection is closed; other connections are not affected."""


class MalformedPacket(ProtocolViolation):
    """A packet is unreadable, or not allowed at this point.

    Attributes:
        expected: What the protocol allows here, in words.
        received: The whole input; the sentence shows its beginning.
    """

    def __init__(self, expected: str, received: object) -> None:
        super().__init__(expected, received)
        self.expected = expected
        self.received = received

    def __str__(self) -> str:
        return f"expected {self.expected}, received {shorten(self.received)}"


class LimitExceeded(ProtocolViolation):
    """The other side sent more than a limit allows.

    Attributes:
        what: The limited quantity, in words.
        limit: The largest amount that is accepted.
        received: The amount that arrived; at least that, where counting stopped early.
        option: The option that sets the limit; ``""`` if the limit is fixed.
    """

    def __init__(self, what: str, limit: int, received: int, option: str = "") -> None:
        super().__init__(what, limit, received, option)
        self.what = what
        self.limit = limit
        self.received = received
        self.option = option

    def __str__(self) -> str:
        sentence = f"{self.what}: expected at most {self.limit}, received {self.received}"
        return f"{sentence}; the option {self.option} sets the limit" if self.option else sentence


class StorageError(WaypostError):
    """The store could not do what was asked. It kept no part of the request.

    Attributes:
        store: The store, as it was configured.
        problem: The reason, in words.
    """

    def __init__(self, store: str, problem: str) -> None:
        super().__init__(store, problem)
        self.store = store
        self.problem = problem

    def __str__(self) -> str:
        return f"store {self.store}: {self.problem}"


class StoreClosed(StorageError):
    """The store is not open: it was not opened yet, or it was closed."""

    def __init__(self, store: str) -> None:
        super().__init__(
            store,
            "it is not open; start its owner first: a server by `await io.start()` or the application's"
            " `lifespan=io.lifespan` (in a test: `with TestClient(app) as client:`), a client by"
            " `await client.connect()`",
        )


class StoreBusy(StorageError):
    """Another process has the store open. One process owns a store at a time.

    Attributes:
        pid: The id of that process, as it has noted it; ``None`` if it did not.
        since: When it opened the store, in seconds since 1970; ``None`` if unknown.
        host: The host or container of that process; ``""`` if it is this one, or unknown.
        waited_s: The seconds for which this process has waited for its end.
    """

    def __init__(
        self,
        store: str,
        *,
        pid: int | None = None,
        since: float | None = None,
        host: str = "",
        waited_s: float = 0.0,
    ) -> None:
        who = "another process" if pid is None else f"process {pid}"
        if host:
            who += f" on {host}"
        held = f"{who} has it open"
        if since is not None:
            held = f"{who} has had it open since {datetime.fromtimestamp(since, UTC):%Y-%m-%d %H:%M:%S} UTC"
        remedy = "; stop that process, or use another file"
        if waited_s:
            remedy = (
                f", and did not end within {waited_s:g} s; for several processes on one store use `waypost serve"
                " --workers N`, else stop that process, or use another file"
            )
        super().__init__(store, held + remedy)
        self.pid = pid
        self.since = since
        self.host = host
        self.waited_s = waited_s


class StoreDamaged(StorageError):
    """The file is not a Waypost store, or it is damaged. The file was not changed."""


class StoreFull(StorageError):
    """The disk of the store is full, or emits would use its reserve. The store works again once there is space.

    Attributes:
        room_bytes: The bytes that are left, if emits were refused for the sake of the reserve; ``None`` if no byte is
            left.
        reserve_bytes: The bytes that emits leave free.
    """

    def __init__(self, store: str, *, room_bytes: int | None = None, reserve_bytes: int = 0) -> None:
        problem = "no space left on its disk; free some, and the store works again"
        if room_bytes is not None:
            problem = (
                f"{room_bytes:,} bytes are left on its disk, and emits leave {reserve_bytes:,} free, so that what "
                "waits can be delivered; free some space, or lower disk_reserve_bytes"
            )
        super().__init__(store, problem)
        self.room_bytes = room_bytes
        self.reserve_bytes = reserve_bytes


class StorageUncertain(StorageError):
    """The store may have done what was asked, or not: the process that has it open is gone.

    Either it was done, and then it counts once, as if it had been reported; or nothing of it was done. An event that
    was taken is delivered. To find out, look; a message of a queue may be added again with the same id.

    Attributes:
        operation: What was asked, in words.
        reason: Why it is not known, in words.
        ids: The ids of the messages that were to be added to a queue; empty for anything else.
    """

    def __init__(self, store: str, operation: str, reason: str, *, ids: tuple[str, ...] = ()) -> None:
        again = "; add the messages again with the same ids, and each is added once" if ids else ""
        super().__init__(
            store,
            f"{reason}, and it is not known whether it did this: {operation}. It was done once or not at all{again}",
        )
        self.operation = operation
        self.reason = reason
        self.ids = ids


class StoreLost(StoreClosed):
    """The store of a server or a client is not its own any more. Nothing is stored until it is opened again.

    Attributes:
        is_taken_over: Whether another server has opened the file.
    """

    def __init__(self, store: str, problem: str, *, is_taken_over: bool = False, remedy: str = "") -> None:
        if not remedy:
            remedy = "stop one of the two servers" if is_taken_over else "put the file back, and start again"
        StorageError.__init__(self, store, f"{problem}; {remedy}")
        self.is_taken_over = is_taken_over


class QueueFull(StorageError):
    """A queue has reached its limits. It kept no part of the request.

    Attributes:
        queue: The queue's name.
        messages: The number of messages that the queue keeps.
        bytes: The size of their records together, in bytes.
        max_messages: The limit on ``messages``.
        max_bytes: The limit on ``bytes``.
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
    """A client's durable outbox has reached its limits. The event was not kept.

    Attributes:
        event: The event's name.
        events: The number of events that wait in the outbox.
        bytes: Their size together, in bytes.
        max_events: The limit on ``events``.
        max_bytes: The limit on ``bytes``.
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
    """The journal no longer keeps the entries after a requested position.

    Attributes:
        journal: The journal's name.
        asked: The position after which entries were requested.
        oldest: The oldest position that the journal keeps.
    """

    def __init__(self, store: str, journal: str, asked: int, oldest: int) -> None:
        super().__init__(
            store,
            f"journal {journal} keeps positions from {oldest}, entries after {asked} were requested; "
            f"read after {oldest - 1} or later",
        )
        self.journal = journal
        self.asked = asked
        self.oldest = oldest
