"""The public socket: one client in one namespace, as handlers see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from waypost.checking.arguments import COUNT, POSITIVE, check
from waypost.checking.names import Name, Names, as_name, as_names
from waypost.errors import NotConnected
from waypost.server.emitting.socket_operator import SocketOperator
from waypost.server.events.incoming import MESSAGE_ID
from waypost.server.queues.deliveries import Consumption
from waypost.server.queues.message import Start, to_place
from waypost.server.queues.options import ORDER, Order
from waypost.typed.handlers import check_handler

if TYPE_CHECKING:
    from waypost.server.basics.handshake import Handshake
    from waypost.server.emitting.operator import Operator
    from waypost.server.namespaces.channel import Channel
    from waypost.server.recovery.recovery import RecoveryOutcome

__all__ = ["Socket"]

F = TypeVar("F", bound=Callable[..., Any])


class Socket:
    """One client in one namespace. Handlers get it as their first argument."""

    __slots__ = ("_channel",)

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def __repr__(self) -> str:
        return f"<Socket {self.id} in {self.namespace}>"

    @property
    def id(self) -> str:
        """Its public id, the ``sid``; also a room that only it is in."""
        return self._channel.sid

    @property
    def namespace(self) -> str:
        """The name of its namespace."""
        return self._channel.namespace

    @property
    def handshake(self) -> Handshake:
        """What the client said of itself when it came."""
        return self._channel.handshake

    @property
    def recovered(self) -> bool:
        """Whether the client goes on where it was: same id, rooms and data, and nothing missed."""
        return self._channel.recovered

    @property
    def recovery(self) -> RecoveryOutcome:
        """Why the client could not go on where it was, and how many events it had missed."""
        return self._channel.recovery

    @property
    def connected(self) -> bool:
        """Whether the client has been told that it is connected, and has not left since."""
        return self._channel.connected

    @property
    def transport(self) -> str:
        """The transport that carries it now: ``"polling"`` or ``"websocket"``."""
        return self._channel.transport

    @property
    def message_id(self) -> str | None:
        """The id of this socket's event that the calling handler handles, if a client's durable outbox sent it.

        It is ``None`` for other events, and in the handler of another socket's event. It is the same if the event has
        to be handled again, because the server ended while it was being handled: an application that stores the id in
        the transaction of its own work does that work once.
        """
        handled = MESSAGE_ID.get()
        return handled[1] if handled is not None and handled[0] == self._channel.sid else None

    @property
    def rooms(self) -> frozenset[str]:
        """The rooms it is in, its own id among them."""
        return self._channel.rooms

    @property
    def data(self) -> dict[str, Any]:
        """Whatever the application wants to remember of it; comes back with a recovery.

        It is stored after each handler of this socket, so JSON has to be able to carry it.
        """
        self._channel.data_touched = True
        return self._channel.data

    # -- handlers of this socket alone ----------------------------------------------------------------------

    @overload
    def on(self, event: str, *, concurrent: bool = ...) -> Callable[[F], F]: ...

    @overload
    def on(self, event: str, handler: F, *, concurrent: bool = ...) -> F: ...

    def on(self, event: str, handler: F | None = None, *, concurrent: bool = False) -> F | Callable[[F], F]:
        """Register a handler for an event of this socket; it is called instead of the namespace's.

        It is gone with the connection: register it in the connect handler, which runs again when the client recovers.

        Args:
            event: An event's name; or ``"disconnect"``, for a handler that runs before the namespace's.
            handler: Called with the event's arguments (the reason, of a disconnect), without the socket.
            concurrent: As for `Server.on`.

        Raises:
            ConfigurationError: It can't be called that way, the event has a handler here, or would never come.
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
        """Take a handler of this socket away; the namespace's handles the event again."""
        self._channel.own_registry.remove(event)

    def on_any(self, handler: F) -> F:
        """Register a handler for all events of this socket, called with their name and arguments.

        See `Server.on_any`.
        """
        self._channel.own_registry.catch_alls.add_incoming(handler)
        return handler

    def off_any(self, handler: Callable[..., Any] | None = None) -> None:
        """Take a handler of all events of this socket away, or all of them."""
        self._channel.own_registry.catch_alls.remove_incoming(handler)

    def on_any_outgoing(self, listener: F) -> F:
        """Register a listener for all events to this socket, called with their name and arguments.

        See `Server.on_any_outgoing`.
        """
        self._channel.own_registry.catch_alls.add_outgoing(listener)
        return listener

    def off_any_outgoing(self, listener: Callable[..., Any] | None = None) -> None:
        """Take a listener of all events to this socket away, or all of them."""
        self._channel.own_registry.catch_alls.remove_outgoing(listener)

    def use(self, middleware: F) -> F:
        """Add a middleware of this socket, called with the name and the arguments of every event that it sends.

        Several are called in the order in which they were added, before all handlers. An event that one of them
        refuses reaches no handler.

        Args:
            middleware: ``async def middleware(event, *args)``, or ``def`` to run in a thread. It raises
                `EventRefused` to refuse. After any other exception no handler gets the event either; the exception
                counts as a handler's.

        Returns:
            The same function, so that it serves as a decorator.

        Raises:
            ConfigurationError: It is no function.
        """
        self._channel.middlewares = (*self._channel.middlewares, check_handler("middleware", middleware, 0))
        return middleware

    # -- to this client -------------------------------------------------------------------------------------

    async def emit(self, event: str, *args: Any) -> None:
        """Emit an event to this client.

        Args:
            event: Its name; none of Socket.IO's reserved ones.
            args: Its arguments: whatever JSON can carry, and ``bytes`` anywhere in it.

        Raises:
            EncodingFailed: An argument can't be encoded.
            StorageError: The store did not take it; it is not delivered.

        Delivery: in order, exactly once if the client stays or comes back in time. Returns when it is in the
        store; if cancelled it may still be delivered. Once the client has left for good it reaches nobody, and raises
        nothing either.
        """
        await self._mine.emit(event, *args)

    async def call(self, event: str, *args: Any, timeout_s: float | None = None) -> Any:
        """Emit an event and wait for the client's ack.

        Args:
            event: Its name.
            args: Its arguments.
            timeout_s: Seconds to wait; ``None`` for the server's ``ack_timeout_s``.

        Returns:
            The ack's argument; a tuple of several; ``None`` for none.

        Raises:
            AckTimeout: No ack came in time.
            NotConnected: The client is not connected yet, or left for good.
            EncodingFailed: An argument can't be encoded.

        Delivery: while this waits, it is sent again with the same ack id whenever the client recovers on this
        server process. Cancelling it leaves nothing behind.
        """
        operator = self._mine if timeout_s is None else self._mine.timeout(timeout_s)
        return await operator.call(event, *args)

    async def join(self, *rooms: Names) -> None:
        """Join rooms. Returns when it counts: what is emitted to them from now on reaches this client.

        Args:
            rooms: Names of rooms, or lists of names. A name is text; an int stands for its decimal text.

        Raises:
            ConfigurationError: An argument is no name of a room.
            NotConnected: The client has left.
            StorageError: The store did not take it; nothing was joined.
        """
        await self._channel.join(as_names("room", rooms))

    async def leave(self, *rooms: Names) -> None:
        """Leave rooms; those it is not in are ignored. Returns when it counts.

        Args:
            rooms: As for `join`.

        Raises:
            ConfigurationError: An argument is no name of a room.
            StorageError: The store did not take it; nothing was left.
        """
        await self._channel.leave(as_names("room", rooms))

    def to(self, *rooms: Names) -> Operator:
        """Address the members of rooms, this client excluded."""
        return self._mine.to(*rooms)

    in_ = to

    def except_(self, *rooms: Names) -> Operator:
        """Address everyone in the namespace but the members of rooms and this client."""
        return self._mine.except_(*rooms)

    @property
    def broadcast(self) -> Operator:
        """Address everyone in the namespace but this client."""
        return self._mine.broadcast

    @property
    def volatile(self) -> SocketOperator:
        """Address this client with events that are dropped if it can't take them right now."""
        return self._mine.volatile

    @property
    def local(self) -> SocketOperator:
        """Address this client or, with `SocketOperator.to` and such, other clients of this server only."""
        return self._mine.local

    def compress(self, compress: bool) -> SocketOperator:
        """Address this client with events whose packets may, or may not, be compressed; see `Operator.compress`."""
        return self._mine.compress(compress)

    def timeout(self, seconds: float) -> SocketOperator:
        """Address this client with another timeout for `call` than the server's ``ack_timeout_s``."""
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
        """Deliver a queue's messages to this client: first those that waited, then live.

        Each comes as the event it was emitted as, with a callback. Calling it, with whatever arguments, acknowledges
        the message; ``ack({nack: "why", retry_in: seconds})`` rejects it, and it comes again later.

        Args:
            queue: The queue's name; it need not exist yet.
            consumer: The name under which progress is kept. Sockets on the same consumer share its messages, each
                message goes to one of them; in strict order, the socket that came last is served and the others
                stand by. Different consumers of a queue each get everything.
            start: Where a new consumer starts: ``"oldest"``, at the oldest message the queue keeps; ``"new"``, behind
                the newest; an offset, or a time. Of no meaning to a consumer that exists.
            prefetch: How many unacknowledged messages this client may have in hand; ``None`` for the queue's option.
            order: ``"strict"``, ``"key"`` or ``"none"``, see `QueueOptions`; ``None`` for the queue's option, or the
                order in which the consumer is being served already.

        Raises:
            NotConnected: The client has left.
            ConfigurationError: An argument can't be what it is, or the consumer is being served in another order.
            StorageError: The store did not answer.

        Delivery: at least once, in the given order. What was not acknowledged when the connection is lost, or when
        its lease ends, is delivered again. Consuming what is consumed already begins anew there. If this is
        cancelled, the client may consume all the same.
        """
        queue, consumer = as_name("queue", queue), as_name("consumer", consumer)
        if prefetch is not None:
            check("prefetch", prefetch, COUNT)
        if order is not None:
            check("order", order, ORDER)
        channel = self._channel
        if channel.left_because is not None:
            raise NotConnected(self.id, self.namespace, f"consume {queue!r}")
        wanted = Consumption(queue, consumer, to_place(start), prefetch, order)
        await channel.core.parts.deliveries.attach(channel, wanted)

    def stop_consuming(self, queue: Name, *, consumer: Name = "default") -> None:
        """Deliver nothing more of a queue to this client. What it has in hand it may still acknowledge.

        Args:
            queue: The queue's name. A queue that this client does not consume is ignored.
            consumer: The consumer's name.
        """
        queue, consumer = as_name("queue", queue), as_name("consumer", consumer)
        self._channel.core.parts.deliveries.retire(self._channel, queue, consumer)

    def extend_lease(self, queue: Name, *, consumer: Name = "default", seconds: float) -> int:
        """Let this client keep what it has in hand for longer, because it said that it is still at work.

        Args:
            queue: The queue's name.
            consumer: The consumer's name.
            seconds: How many seconds from now.

        Returns:
            How many messages it has in hand; 0 tells that the client is too late.
        """
        check("seconds", seconds, POSITIVE)
        queue, consumer = as_name("queue", queue), as_name("consumer", consumer)
        return self._channel.core.parts.deliveries.extend(self._channel, queue, consumer, seconds)

    async def disconnect(self, *, close: bool = False) -> None:
        """Disconnect the client from this namespace; it does not come back by itself.

        Args:
            close: Close its whole connection too, with all its namespaces.
        """
        channel = self._channel
        channel.disconnect()
        if close:
            channel.close_connection()

    @property
    def _mine(self) -> SocketOperator:
        return SocketOperator(self._channel, self._channel.core.feed, self._channel.core.flags)
