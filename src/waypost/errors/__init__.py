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
    ├── ApiRefused                  the HTTP API of a service refused a request
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
        ├── ApiUnavailable          the HTTP API of a service can't be reached, or takes no request now
        ├── QueueFull               the queue has reached its limits
        ├── OutboxFull              the client's outbox has reached its limits
        └── PositionGone            the journal no longer keeps that position
"""

from __future__ import annotations

from typing import Any, Literal

from waypost.errors.api import ApiRefused, ApiUnavailable
from waypost.errors.base import OUTLINE, WaypostError, cut, misfit, shorten
from waypost.errors.storage import (
    OutboxFull,
    PositionGone,
    QueueFull,
    StorageError,
    StorageUncertain,
    StoreBusy,
    StoreClosed,
    StoreDamaged,
    StoreFull,
    StoreLost,
)

__all__ = [
    "AckTimeout",
    "AnswerMismatch",
    "ApiRefused",
    "ApiUnavailable",
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
        why = misfit(self.expected, self.received, self.fault)
        return f"argument {self.number} ({self.parameter}): {why}"

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
            "received": OUTLINE.repr(self.received),
            "problem": cut(self.problem),
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
        owner: ``"server"``, ``"client"``, ``"emitter"`` or ``"api"``.
    """

    def __init__(
        self,
        action: str,
        *,
        is_closed: bool = False,
        is_asyncio: bool = True,
        owner: Literal["server", "client", "emitter", "api"] = "server",
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
        if self.owner in ("emitter", "api"):
            noun, kind = ("emitter", "Emitter") if self.owner == "emitter" else ("API", "Api")
            return (
                f"{self.action} expected the event loop on which the {noun} is in use, and came on another; nothing"
                f" was done; make an {noun} for each event loop, or use waypost.sync.{kind} in threads"
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
        return f"the answer to {self.event!r}: {misfit(self.expected, self.received, self.fault)}"


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
        return f"{sentence}; {f'the option {self.option} sets the limit' if self.option else 'the limit is fixed'}"
