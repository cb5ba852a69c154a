"""Hooks: notify observers of what happens in a server, for metrics, dashboards and tracing.

An observer is a plain function of one value. It runs on the event loop at that moment, so it must be short. Its
exceptions are logged and have no other effect. A hook without observers costs one look at an attribute.

::

    @io.hooks.error
    def report(failure: waypost.HandlerFailure) -> None:
        sentry.capture(failure.error)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from waypost.errors import ConfigurationError, NotConnected
from waypost.logs import by_client, fields, get_logger
from waypost.protocol.engineio import Frame
from waypost.protocol.socketio import Packet
from waypost.server.basics.handshake import Handshake
from waypost.server.calling.faults import fault
from waypost.server.watching.queue_events import ConsumerExpired, MessageDied, MessagesLost
from waypost.typed.handlers import check_handler

__all__ = [
    "ConnectionClosed",
    "ConnectionOpened",
    "EventUndeliverable",
    "HandlerFailure",
    "Hook",
    "Hooks",
    "PacketReceived",
    "PacketSent",
    "RequestRefused",
    "SocketConnected",
    "SocketDisconnected",
    "report_failure",
]

logger = get_logger("waypost.hooks")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ConnectionOpened:
    """A client opened an Engine.IO connection.

    Attributes:
        connection: The connection's number, unique in this server. Unlike the session id, it is no secret.
        transport: The transport on which it opened.
        handshake: The client's request.
    """

    connection: int
    transport: str
    handshake: Handshake


@dataclass(frozen=True, slots=True)
class ConnectionClosed:
    """An Engine.IO connection ended.

    Attributes:
        connection: The connection's number.
        transport: The last transport.
        reason: The reason, in Socket.IO's words, such as ``"ping timeout"``.
        duration_s: Seconds for which it was open.
    """

    connection: int
    transport: str
    reason: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class EventUndeliverable:
    """A client's session ended because the client can't get an event; it starts anew.

    Attributes:
        socket_id: The id of the session's socket.
        namespace: Its namespace.
        event: The event's name; in words if no packet can carry it.
        offset: The event's offset.
        connections: On how many connections it was sent in vain; 0 if no packet can carry it.
    """

    socket_id: str
    namespace: str
    event: str
    offset: str
    connections: int


@dataclass(frozen=True, slots=True)
class RequestRefused:
    """A request was refused before it reached a connection; ``connection_error`` in Node.

    Attributes:
        code: Engine.IO's code, 0 to 5.
        message: Engine.IO's text, which the client got too.
        context: The reason, which the client did not get, such as ``"INVALID_ORIGIN"``.
        handshake: The client's request.
    """

    code: int
    message: str
    context: str
    handshake: Handshake


@dataclass(frozen=True, slots=True)
class PacketReceived:
    """A Socket.IO packet arrived from a client, attachments included. It is handled after this.

    Attributes:
        connection: The connection's number.
        packet: The packet.
    """

    connection: int
    packet: Packet


@dataclass(frozen=True, slots=True)
class PacketSent:
    """A Socket.IO packet was passed to a connection.

    Attributes:
        connection: The connection's number.
        frames: The packet as Engine.IO messages: its text with the leading ``4``, then its attachments.
    """

    connection: int
    frames: tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class SocketConnected:
    """A client was admitted to a namespace.

    Attributes:
        connection: The connection's number.
        socket_id: The socket's id.
        namespace: The namespace's name.
        recovered: Whether its session was recovered.
    """

    connection: int
    socket_id: str
    namespace: str
    recovered: bool


@dataclass(frozen=True, slots=True)
class SocketDisconnected:
    """A connected socket ended.

    Attributes:
        connection: The connection's number.
        socket_id: The socket's id.
        namespace: The namespace's name.
        reason: The reason, as the disconnect handler gets it.
    """

    connection: int
    socket_id: str
    namespace: str
    reason: str


@dataclass(frozen=True, slots=True)
class HandlerFailure:
    """A handler or middleware of the application raised an exception. It was logged; the client did not get it.

    Attributes:
        event: The event's name; ``"connect"``, ``"disconnect"``, ``"middleware"`` and such for the server's own
            calls.
        socket_id: The socket's id; ``""`` without a socket.
        namespace: The namespace's name.
        error: The exception.
    """

    event: str
    socket_id: str
    namespace: str
    error: BaseException


class Hook(Generic[T]):
    """One kind of event, and its observers. Call it with a function, or use it as a decorator, to add an observer.

    Attributes:
        name: The hook's name.
        observers: The observers, in the order of the calls.
    """

    __slots__ = ("name", "observers")

    def __init__(self, name: str) -> None:
        self.name = name
        self.observers: tuple[Callable[[T], object], ...] = ()

    def __call__(self, observer: Callable[[T], object]) -> Callable[[T], object]:
        """Add an observer.

        Args:
            observer: A plain function of one value, called on the event loop.

        Returns:
            The observer.

        Raises:
            ConfigurationError: The argument is not such a function.
        """
        check_handler(f"hooks.{self.name}", observer, 1)
        if inspect.iscoroutinefunction(observer):
            raise ConfigurationError(f"hooks.{self.name}", observer, "a plain function (def), no async one")
        self.observers = (*self.observers, observer)
        return observer

    def remove(self, observer: Callable[[T], object]) -> None:
        """Remove an observer; an unknown one is ignored."""
        self.observers = tuple(other for other in self.observers if other != observer)

    def tell(self, event: T) -> None:
        """Call the observers. Check `observers` before making the event."""
        for observer in self.observers:
            try:
                observer(event)
            except BaseException as error:  # an observer's fault must not harm those it watches
                logger.error(
                    "an observer of %r failed", self.name, exc_info=fault(error), extra=fields(code=self.name)
                )


class Hooks:
    """A server's hooks.

    Attributes:
        connection_opened: A client opened an Engine.IO connection.
        connection_closed: An Engine.IO connection ended.
        request_refused: A request was refused before it reached a connection.
        packet_received: A Socket.IO packet arrived.
        packet_sent: A Socket.IO packet was passed to a connection.
        socket_connected: A client was admitted to a namespace.
        socket_disconnected: A socket ended.
        event_undeliverable: A client's session ended because the client can't get an event.
        error: A handler or middleware of the application raised an exception.
        message_died: A message of a queue became a dead letter.
        messages_lost: A consumer lost messages to the limits of its queue, while a socket or worker was attached to
            it.
        consumer_expired: A consumer ended because no socket or worker was attached to it for too long.
    """

    __slots__ = (
        "connection_closed",
        "connection_opened",
        "consumer_expired",
        "error",
        "event_undeliverable",
        "message_died",
        "messages_lost",
        "packet_received",
        "packet_sent",
        "request_refused",
        "socket_connected",
        "socket_disconnected",
    )

    def __init__(self) -> None:
        self.connection_opened: Hook[ConnectionOpened] = Hook("connection_opened")
        self.connection_closed: Hook[ConnectionClosed] = Hook("connection_closed")
        self.request_refused: Hook[RequestRefused] = Hook("request_refused")
        self.packet_received: Hook[PacketReceived] = Hook("packet_received")
        self.packet_sent: Hook[PacketSent] = Hook("packet_sent")
        self.socket_connected: Hook[SocketConnected] = Hook("socket_connected")
        self.socket_disconnected: Hook[SocketDisconnected] = Hook("socket_disconnected")
        self.event_undeliverable: Hook[EventUndeliverable] = Hook("event_undeliverable")
        self.error: Hook[HandlerFailure] = Hook("error")
        self.message_died: Hook[MessageDied] = Hook("message_died")
        self.messages_lost: Hook[MessagesLost] = Hook("messages_lost")
        self.consumer_expired: Hook[ConsumerExpired] = Hook("consumer_expired")


def report_failure(
    hooks: Hooks, event: str, sid: str, namespace: str, error: BaseException, *, outcome: str = ""
) -> None:
    """Log an exception of a handler or middleware with its traceback, and notify the observers of errors.

    Args:
        hooks: The server's hooks.
        event: The event's name.
        sid: The socket's id; ``""`` without a socket.
        namespace: The namespace's name; ``""`` without one.
        error: The exception. The client does not get it. `NotConnected` is not an error, unless it has an outcome.
        outcome: What it means for the client, for the log.
    """
    if isinstance(error, NotConnected) and not outcome:
        # The client has left in the meantime, as any client may at any time.
        logger.info(
            "the handler of %r ended early%s: %s",
            event,
            _whose(sid, namespace),
            error,
            extra=by_client(fields(event=event, sid=sid or None, namespace=namespace or None)),
        )
        return
    logger.error(
        "the handler of %r failed%s%s",
        event,
        _whose(sid, namespace),
        outcome,
        exc_info=error,
        extra=by_client(fields(event=event, sid=sid or None, namespace=namespace or None)),
    )
    if hooks.error.observers:
        hooks.error.tell(HandlerFailure(event, sid, namespace, error))


def _whose(sid: str, namespace: str) -> str:
    return (f" for socket {sid}" if sid else "") + (f" in {namespace}" if namespace else "")
