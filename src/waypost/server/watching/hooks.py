"""Hooks: observers of a server (metrics, a dashboard, tracing) are told of what happens in it.

An observer is a plain function that takes one value. It runs on the event loop at the moment itself, so it must be
short; what it raises is logged and harms nobody. A hook that nobody uses costs one look at an attribute.

::

    @io.hooks.error
    def report(failure: waypost.HandlerFailure) -> None:
        sentry.capture(failure.error)
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from waypost.errors import ConfigurationError, NotConnected
from waypost.protocol.engineio import Frame
from waypost.protocol.socketio import Packet
from waypost.server.basics.handshake import Handshake
from waypost.server.watching.queue_events import ConsumerExpired, MessageDied, MessagesLost
from waypost.typed.handlers import check_handler

__all__ = [
    "ConnectionClosed",
    "ConnectionOpened",
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

logger = logging.getLogger("waypost.hooks")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ConnectionOpened:
    """A client opened an Engine.IO connection.

    Attributes:
        connection: Its number, which no other connection of this server has. Its session id is a secret.
        transport: The transport it begins with.
        handshake: The request it came with.
    """

    connection: int
    transport: str
    handshake: Handshake


@dataclass(frozen=True, slots=True)
class ConnectionClosed:
    """An Engine.IO connection ended.

    Attributes:
        connection: Its number.
        transport: The transport it ended on.
        reason: Why, in Socket.IO's words, such as ``"ping timeout"``.
        duration_s: How many seconds it was open.
    """

    connection: int
    transport: str
    reason: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class RequestRefused:
    """A request was refused before it reached a connection; Node's ``connection_error``.

    Attributes:
        code: Engine.IO's code, 0 to 5.
        message: Engine.IO's text, which the client got too.
        context: Why, as the client is not told, such as ``"INVALID_ORIGIN"``.
        handshake: The request.
    """

    code: int
    message: str
    context: str
    handshake: Handshake


@dataclass(frozen=True, slots=True)
class PacketReceived:
    """A Socket.IO packet came from a client, attachments included; it is handled after this.

    Attributes:
        connection: The connection's number.
        packet: The packet.
    """

    connection: int
    packet: Packet


@dataclass(frozen=True, slots=True)
class PacketSent:
    """A Socket.IO packet was handed to a connection.

    Attributes:
        connection: The connection's number.
        frames: The packet as Engine.IO messages: its text, with the leading ``4``, and then its attachments.
    """

    connection: int
    frames: tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class SocketConnected:
    """A client was let into a namespace.

    Attributes:
        connection: The connection's number.
        socket_id: The socket's id.
        namespace: The namespace.
        recovered: Whether it goes on where it was.
    """

    connection: int
    socket_id: str
    namespace: str
    recovered: bool


@dataclass(frozen=True, slots=True)
class SocketDisconnected:
    """A socket that had been connected ended.

    Attributes:
        connection: The connection's number.
        socket_id: The socket's id.
        namespace: The namespace.
        reason: Why, as the disconnect handler is told.
    """

    connection: int
    socket_id: str
    namespace: str
    reason: str


@dataclass(frozen=True, slots=True)
class HandlerFailure:
    """A handler or middleware of the application raised; it was logged, and the client was told nothing of it.

    Attributes:
        event: The event's name; ``"connect"``, ``"disconnect"``, ``"middleware"`` and such for the server's calls.
        socket_id: The socket's id; ``""`` if there is none.
        namespace: The namespace.
        error: What was raised.
    """

    event: str
    socket_id: str
    namespace: str
    error: BaseException


class Hook(Generic[T]):
    """One kind of event, and its observers. Call it with a function, or use it as a decorator, to add one.

    Attributes:
        name: Its name.
        observers: The functions that are called, in this order; empty if there are none.
    """

    __slots__ = ("name", "observers")

    def __init__(self, name: str) -> None:
        self.name = name
        self.observers: tuple[Callable[[T], object], ...] = ()

    def __call__(self, observer: Callable[[T], object]) -> Callable[[T], object]:
        """Add an observer.

        Args:
            observer: A plain function that takes one value, called on the event loop.

        Returns:
            The same function, so that it serves as a decorator.

        Raises:
            ConfigurationError: It is no such function.
        """
        check_handler(f"hooks.{self.name}", observer, 1)
        if inspect.iscoroutinefunction(observer):
            raise ConfigurationError(f"hooks.{self.name}", observer, "a plain function (def), no async one")
        self.observers = (*self.observers, observer)
        return observer

    def remove(self, observer: Callable[[T], object]) -> None:
        """Remove an observer. A function that is no observer is ignored."""
        self.observers = tuple(other for other in self.observers if other != observer)

    def tell(self, event: T) -> None:
        """Call the observers. Callers look whether there are any before they make the event."""
        for observer in self.observers:
            try:
                observer(event)
            except Exception:  # an observer's fault must not harm those it watches
                logger.exception("an observer of %r failed", self.name)


class Hooks:
    """A server's hooks.

    Attributes:
        connection_opened: A client opened an Engine.IO connection.
        connection_closed: One ended.
        request_refused: A request was refused before it reached one.
        packet_received: A Socket.IO packet came in.
        packet_sent: A Socket.IO packet was handed to a connection.
        socket_connected: A client was let into a namespace.
        socket_disconnected: A socket ended.
        error: A handler or middleware of the application raised.
        message_died: A message of a queue became a dead letter.
        messages_lost: A consumer lost messages to the limits of its queue; told while something is attached to it.
        consumer_expired: A consumer ended because nothing was attached to it for too long.
    """

    __slots__ = (
        "connection_closed",
        "connection_opened",
        "consumer_expired",
        "error",
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
        self.error: Hook[HandlerFailure] = Hook("error")
        self.message_died: Hook[MessageDied] = Hook("message_died")
        self.messages_lost: Hook[MessagesLost] = Hook("messages_lost")
        self.consumer_expired: Hook[ConsumerExpired] = Hook("consumer_expired")


def report_failure(hooks: Hooks, event: str, sid: str, namespace: str, error: BaseException) -> None:
    """Log what a handler or middleware raised, with its traceback, and tell the observers of errors.

    Args:
        hooks: The server's hooks.
        event: What was being handled.
        sid: The socket's id; ``""`` if there is none.
        namespace: The namespace.
        error: What was raised. The client is told nothing of it. `NotConnected` is no failure.
    """
    if isinstance(error, NotConnected):
        # Its client has gone meanwhile, which any client may do at any time.
        logger.info("the handler of %r ended early for socket %s in %s: %s", event, sid or "-", namespace, error)
        return
    logger.error("the handler of %r failed for socket %s in %s", event, sid or "-", namespace, exc_info=error)
    if hooks.error.observers:
        hooks.error.tell(HandlerFailure(event, sid, namespace, error))
