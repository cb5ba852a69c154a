"""The public socket: one client in one namespace, as handlers see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from waypost.checking.arguments import COUNT, POSITIVE, check
from waypost.checking.names import Name, Names, as_name, as_names
from waypost.errors import NotConnected
from waypost.server.calling.from_thread import blocking, blocking_plain
from waypost.server.emitting.socket_operator import SocketOperator, SocketOperatorFromThread
from waypost.server.events.incoming import MESSAGE_ID
from waypost.server.queues.deliveries import Consumption
from waypost.server.queues.message import Start, to_place
from waypost.server.queues.options import ORDER, Order
from waypost.typed.handlers import check_handler

if TYPE_CHECKING:
    from waypost.own_loop import OwnLoop
    from waypost.server.basics.handshake import Handshake
    from waypost.server.emitting.operator import Operator, OperatorFromThread
    from waypost.server.namespaces.channel import Channel
    from waypost.server.recovery.recovery import RecoveryOutcome

__all__ = ["Socket", "SocketFromThread"]

F = TypeVar("F", bound=Callable[..., Any])


class Socket:
    """One client in one namespace. It is the first argument of handlers."""

    __slots__ = ("_channel",)

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def __repr__(self) -> str:
        return f"<Socket {self.id} in {self.namespace}>"

    @property
    def id(self) -> str:
        """The socket's public id, the ``sid``. It is also a room of this client alone."""
        return self._channel.sid

    @property
    def namespace(self) -> str:
        """The namespace's name."""
        return self._channel.namespace

    @property
    def handshake(self) -> Handshake:
        """The client's request for the connection: headers, query, auth, address."""
        return self._channel.handshake

    @property
    def recovered(self) -> bool:
        """Whether the client's session was recovered: same id, rooms and data, and no event is missing."""
        return self._channel.recovered

    @property
    def recovery(self) -> RecoveryOutcome:
        """The reason why the session was not recovered, and the number of missed events."""
        return self._channel.recovery

    @property
    def connected(self) -> bool:
        """Whether the server has answered the client's CONNECT, and the client has not left since."""
        return self._channel.connected

    @property
    def transport(self) -> str:
        """The current transport: ``"polling"`` or ``"websocket"``."""
        return self._channel.transport

    @property
    def message_id(self) -> str | None:
        """The id of this socket's event that the calling handler handles, if a client's durable outbox sent it.

        It is ``None`` for other events, and in the handler of another socket's event. If the server ends while it
        handles the event, the event is handled again with the same id. An application that stores the id in the
        transaction of its own work does that work once.
        """
        handled = MESSAGE_ID.get()
        return handled[1] if handled is not None and handled[0] == self._channel.sid else None

    @property
    def rooms(self) -> frozenset[str]:
        """The socket's rooms, its own id included."""
        return self._channel.rooms

    @property
    def data(self) -> dict[str, Any]:
        """The application's data for this client; a recovered session has it again.

        It is stored after each handler of this socket, so JSON must be able to carry it.
        """
        self._channel.data_touched = True
        return self._channel.data

    # -- handlers of this socket alone ----------------------------------------------------------------------

    @overload
    def on(self, event: str, *, concurrent: bool = ...) -> Callable[[F], F]: ...

    @overload
    def on(self, event: str, handler: F, *, concurrent: bool = ...) -> F: ...

    def on(self, event: str, handler: F | None = None, *, concurrent: bool = False) -> F | Callable[[F], F]:
        """Register a handler for an event of this socket; it is called instead of the namespace's handler.

        It ends with the connection. Register it in the connect handler, which runs again when the client recovers.

        Args:
            event: An event's name; or ``"disconnect"``, for a handler that runs before the namespace's.
            handler: Called with the event's arguments (for a disconnect, the reason), without the socket.
            concurrent: As for `Server.on`.

        Returns:
            The handler; without one, a decorator.

        Raises:
            ConfigurationError: The handler can't be called that way, the event has a handler here already, or no such
                event can occur.
        """
        add = self._channel.own_registry.adder(event, concurrent=concurrent)
        return add if handler is None else add(handler)

    @overload
    def once(self, event: str) -> Callable[[F], F]: ...

    @overload
    def once(self, event: str, handler: F) -> F: ...

    def once(self, event: str, handler: F | None = None) -> F | Callable[[F], F]:
        """Register a handler for the next such event of this socket only; see `on`."""
        add = self._channel.own_registry.adder(event, once=True)
        return add if handler is None else add(handler)

    def off(self, event: str) -> None:
        """Remove a handler of this socket; the namespace's handler gets the event again."""
        self._channel.own_registry.remove(event)

    def on_any(self, handler: F) -> F:
        """Register a handler for all events of this socket; see `Server.on_any`.

        Args:
            handler: Called with the event's name and arguments, without the socket.

        Returns:
            The handler.

        Raises:
            ConfigurationError: The handler can't be called that way.
        """
        self._channel.own_registry.catch_alls.add_incoming(handler)
        return handler

    def off_any(self, handler: Callable[..., Any] | None = None) -> None:
        """Remove a handler for all events of this socket; ``None`` removes all of them."""
        self._channel.own_registry.catch_alls.remove_incoming(handler)

    def on_any_outgoing(self, listener: F) -> F:
        """Register a listener for all events to this socket; see `Server.on_any_outgoing`.

        Args:
            listener: Called with the event's name and arguments, without the socket.

        Returns:
            The listener.

        Raises:
            ConfigurationError: The listener can't be called that way, or is ``async``.
        """
        self._channel.own_registry.catch_alls.add_outgoing(listener)
        return listener

    def off_any_outgoing(self, listener: Callable[..., Any] | None = None) -> None:
        """Remove a listener for all events to this socket; ``None`` removes all of them."""
        self._channel.own_registry.catch_alls.remove_outgoing(listener)

    def use(self, middleware: F) -> F:
        """Add a middleware for this socket's events; usable as a decorator.

        Several are called in the order in which they were added, before all handlers. If one refuses an event, no
        handler gets it.

        Args:
            middleware: ``async def middleware(event, *args)``, or ``def`` to run in a thread. It raises
                `EventRefused` to refuse. Any other exception refuses the event too, and is reported as a handler's.

        Returns:
            The function.

        Raises:
            ConfigurationError: The argument is not a function.
        """
        self._channel.middlewares = (*self._channel.middlewares, check_handler("middleware", middleware, 0))
        return middleware

    # -- to this client -------------------------------------------------------------------------------------

    @property
    def from_thread(self) -> SocketFromThread:
        """The same methods for threads, which wait for the result: ``socket.from_thread.emit("weighed", 3)``.

        For ``def`` handlers and threads of the application.
        """
        return SocketFromThread(self, self._own_loop)

    async def emit(self, event: str, *args: Any) -> None:
        """Emit an event to this client.

        Args:
            event: The event's name; none of Socket.IO's reserved names.
            args: The event's arguments: values that JSON can carry, and ``bytes`` anywhere in them.

        Raises:
            NotConnected: The client has left for good. In a handler of this socket, this ends the handler without an
                error in the log.
            EncodingFailed: An argument can't be encoded, or the name is reserved.
            StorageError: The store did not take the event. It is not delivered.

        Delivery: in order, and once if the client stays or comes back in time. Returns when the event is in the
        store. If cancelled, the event may still be delivered.
        """
        await self._mine.emit(event, *args)

    async def call(self, event: str, *args: Any, timeout_s: float | None = None) -> Any:
        """Emit an event and wait for the client's acknowledgement. May be cancelled.

        Args:
            event: The event's name; none of Socket.IO's reserved names.
            args: The event's arguments, as for `emit`.
            timeout_s: Seconds to wait, above 0; ``None`` for the server's ``ack_timeout_s``.

        Returns:
            The acknowledgement's argument; a tuple of several arguments; ``None`` without arguments.

        Raises:
            AckTimeout: No acknowledgement arrived in time.
            NotConnected: The client is not connected yet, or has left for good.
            EncodingFailed: An argument can't be encoded, or the name is reserved.

        Delivery: at most once per connection. If the client recovers on this server process in the meantime, the
        event is sent again with the same ack id.
        """
        operator = self._mine if timeout_s is None else self._mine.timeout(timeout_s)
        return await operator.call(event, *args)

    async def join(self, *rooms: Names) -> None:
        """Join rooms. When this returns, emits to the rooms reach this client.

        Args:
            rooms: Names of rooms, or lists of names. A name is text; an int stands for its decimal text.

        Raises:
            ConfigurationError: An argument is no name of a room.
            NotConnected: The client has left.
            StorageError: The store did not take the change. No room was joined.
        """
        self._own_loop.check("join")
        await self._channel.join(as_names("room", rooms))

    async def leave(self, *rooms: Names) -> None:
        """Leave rooms. When this returns, emits to the rooms no longer reach this client. Other rooms are ignored.

        Args:
            rooms: As for `join`.

        Raises:
            ConfigurationError: An argument is no name of a room.
            StorageError: The store did not take the change. No room was left.
        """
        self._own_loop.check("leave")
        await self._channel.leave(as_names("room", rooms))

    def to(self, *rooms: Names) -> Operator:
        """Address the members of rooms, this client excluded."""
        return self._mine.to(*rooms)

    in_ = to

    def except_(self, *rooms: Names) -> Operator:
        """Address all clients of the namespace except the members of rooms and this client."""
        return self._mine.except_(*rooms)

    @property
    def broadcast(self) -> Operator:
        """An operator for all clients of the namespace except this one."""
        return self._mine.broadcast

    @property
    def volatile(self) -> SocketOperator:
        """An operator for this client that drops events if the client can't take them at once."""
        return self._mine.volatile

    @property
    def local(self) -> SocketOperator:
        """An operator for this client, or with ``to`` and such for other clients of this server only."""
        return self._mine.local

    def compress(self, compress: bool) -> SocketOperator:
        """Set whether the transport may compress the packets for this client; see `Operator.compress`."""
        return self._mine.compress(compress)

    def timeout(self, seconds: float) -> SocketOperator:
        """Set another timeout for `call` than the server's ``ack_timeout_s``; see `Operator.timeout`."""
        return self._mine.timeout(seconds)

    async def consume(
        self,
        queue: Name,
        *,
        consumer: Name = "default",
        start: Start = "oldest",
        prefetch: int | None = None,
        order: Order | None = None,
    ) -> None:
        """Deliver a queue's messages to this client: first the waiting ones, then new ones.

        Each message arrives as its event, with a callback. Calling the callback with any arguments acknowledges the
        message. ``ack({nack: "why", retry_in: seconds})`` rejects it, and the queue delivers it again later;
        ``ack({nack: "why", final: true})`` makes it a dead letter.

        Args:
            queue: The queue's name; the queue need not exist yet.
            consumer: The consumer's name, under which the queue keeps the progress. Sockets of one consumer share its
                messages: each message goes to one of them. In strict order the newest socket gets all messages, and
                the others stand by. Different consumers each get all messages.
            start: The start of a new consumer: ``"oldest"``, at the oldest message in the queue; ``"new"``, after the
                newest; an offset, or a time. An existing consumer ignores it.
            prefetch: The most unacknowledged messages of this client, from 1. ``None``: one at first, and more
                while it acknowledges quickly, up to the queue's option.
            order: ``"strict"``, ``"key"`` or ``"none"``, see `QueueOptions`; ``None`` for the order in which the
                consumer is served already, or else the queue's option.

        Raises:
            NotConnected: The client has left.
            ConfigurationError: An argument has a value that it does not accept, or the consumer is served in another
                order.
            StorageError: The store did not answer.

        Delivery: at least once, in the given order. A message that is not acknowledged when its lease ends, or when
        the client leaves for good, is delivered again. After a lost connection the client keeps it until the lease
        ends, if its session may recover. A second call for the same consumer starts the delivery anew. If cancelled,
        the client may still consume.
        """
        self._own_loop.check("consume")
        queue, consumer = as_name("queue", queue), as_name("consumer", consumer)
        if prefetch is not None:
            check("prefetch", prefetch, COUNT)
        if order is not None:
            check("order", order, ORDER)
        channel = self._channel
        if channel.left_because is not None:
            raise NotConnected(self.id, self.namespace, f"consume {queue!r}")
        wanted = Consumption(queue, consumer, to_place(start), prefetch, order)
        deliveries = channel.core.parts.deliveries
        deliveries.caveats.look_at(self.handshake.query, self.handshake.headers, queue, consumer)
        await deliveries.attach(channel, wanted)

    def stop_consuming(self, queue: Name, *, consumer: Name = "default") -> None:
        """Stop delivering a queue's messages to this client. It may still acknowledge those that it has.

        Args:
            queue: The queue's name; a queue that is not consumed is ignored.
            consumer: The consumer's name.
        """
        self._own_loop.check("stop_consuming")
        queue, consumer = as_name("queue", queue), as_name("consumer", consumer)
        self._channel.core.parts.deliveries.retire(self._channel, queue, consumer)

    def extend_lease(self, queue: Name, *, consumer: Name = "default", seconds: float) -> int:
        """Extend the leases of this client's messages, because the client reported that it is still working.

        Args:
            queue: The queue's name.
            consumer: The consumer's name.
            seconds: Seconds from now, above 0.

        Returns:
            The number of messages that the client holds; 0 means that the client is too late.

        Raises:
            ConfigurationError: An argument has a value that it does not accept.
        """
        self._own_loop.check("extend_lease")
        check("seconds", seconds, POSITIVE)
        queue, consumer = as_name("queue", queue), as_name("consumer", consumer)
        return self._channel.core.parts.deliveries.extend(self._channel, queue, consumer, seconds)

    async def disconnect(self, *, close: bool = False, resumable: bool = False) -> None:
        """Disconnect the client from this namespace; it does not reconnect by itself.

        Args:
            close: Whether to close its whole connection too, with all its namespaces.
            resumable: Whether its session is kept: when the page calls ``connect()`` within ``session_ttl_s``, with
                a new token for example, it recovers and has missed nothing. Otherwise the session ends.
        """
        self._own_loop.check("disconnect")
        channel = self._channel
        channel.disconnect(resumable=resumable)
        if close:
            channel.close_connection()

    @property
    def _own_loop(self) -> OwnLoop:
        return self._channel.core.feed.own_loop

    @property
    def _mine(self) -> SocketOperator:
        return SocketOperator(self._channel, self._channel.core.feed, self._channel.core.flags)


class SocketFromThread:
    """A `Socket` for threads; each method waits for its result. Made by ``from_thread``.

    The methods have the arguments, results, errors and guarantees of the awaited ones. They are called on the
    server's event loop, with the thread's context variables. On that loop itself they raise `ConfigurationError`.
    """

    __slots__ = ("_inner", "_own_loop")

    def __init__(self, inner: Socket, own_loop: OwnLoop) -> None:
        self._inner = inner
        self._own_loop = own_loop

    emit = blocking(Socket.emit)
    call = blocking(Socket.call)
    join = blocking(Socket.join)
    leave = blocking(Socket.leave)
    consume = blocking(Socket.consume)
    stop_consuming = blocking_plain(Socket.stop_consuming)
    extend_lease = blocking_plain(Socket.extend_lease)
    disconnect = blocking(Socket.disconnect)

    def to(self, *rooms: Names) -> OperatorFromThread:
        """Address the members of rooms, this client excluded."""
        return self._inner.to(*rooms).from_thread

    in_ = to

    def except_(self, *rooms: Names) -> OperatorFromThread:
        """Address all clients of the namespace except the members of rooms and this client."""
        return self._inner.except_(*rooms).from_thread

    @property
    def broadcast(self) -> OperatorFromThread:
        """An operator for all clients of the namespace except this one."""
        return self._inner.broadcast.from_thread

    @property
    def volatile(self) -> SocketOperatorFromThread:
        """An operator for this client that drops events if the client can't take them at once."""
        return self._inner.volatile.from_thread
