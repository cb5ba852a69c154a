"""The broadcast operator: the recipients of an emit and its options. Each step returns a new operator."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from threading import get_ident
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

from waypost.checking.names import Names, as_names
from waypost.own_loop import OwnLoop
from waypost.server.basics.targets import Target
from waypost.server.calling.arrival import arriving
from waypost.server.calling.from_thread import blocking
from waypost.server.emitting.broadcast import BroadcastCall
from waypost.server.emitting.flags import Flags
from waypost.server.emitting.remote_socket import FetchedSockets, fetch_sockets

if TYPE_CHECKING:
    from waypost.server.emitting.members import Members

__all__ = ["Broadcasting", "Operator", "OperatorFromThread"]

P = ParamSpec("P")
T = TypeVar("T")


class Broadcasting(Protocol):
    """Emits to many clients: the methods that a server, a namespace, a parent and an `Operator` share.

    ``to``, ``in_``, ``except_``, ``volatile``, ``local``, ``compress`` and ``timeout`` return an `Operator`. They do
    not change the object that they are called on.
    """

    __slots__ = ()

    _members: Members
    _target: Target
    _flags: Flags
    # Servers and namespaces keep these two: making an operator takes as long as `io.volatile.emit` itself.
    _volatile: Operator | None = None
    _local: Operator | None = None

    # -- whom -----------------------------------------------------------------------------------------------

    def to(self, *rooms: Names) -> Operator:
        """Address the members of rooms, in addition to the rooms named before.

        A client in several of the rooms gets an event once.

        Args:
            rooms: Names of rooms, or lists of names. A name is text; an int stands for its decimal text. A socket's
                id is a room too. Without rooms, no client is addressed.

        Returns:
            An operator for these clients.

        Raises:
            ConfigurationError: An argument is no name of a room.
        """
        target = Target((self._target.rooms or frozenset()).union(as_names("room", rooms)), self._target.except_)
        return Operator(self._members, target, self._flags)

    def in_(self, *rooms: Names) -> Operator:
        """Do the same as `to`; Socket.IO has this name for it too.

        Args:
            rooms: As for `to`.

        Returns:
            An operator for the members of the rooms.

        Raises:
            ConfigurationError: An argument is no name of a room.
        """
        return self.to(*rooms)

    def except_(self, *rooms: Names) -> Operator:
        """Leave out the members of rooms. Without `to` before it, all other clients are addressed.

        Args:
            rooms: As for `to`.

        Returns:
            An operator for the other clients.

        Raises:
            ConfigurationError: An argument is no name of a room.
        """
        target = Target(self._target.rooms, self._target.except_.union(as_names("room", rooms)))
        return Operator(self._members, target, self._flags)

    # -- how ------------------------------------------------------------------------------------------------

    @property
    def volatile(self) -> Operator:
        """An operator for the same clients that drops an event for each client that can't take it at once."""
        return self._volatile or self._with(self._flags._replace(volatile=True))

    @property
    def local(self) -> Operator:
        """An operator for those of the clients that are on this server. Without a cluster these are all clients.

        In a cluster these are the sockets that are connected to this server when it is their turn. An emit is in the
        journal for them, and reaches those that lose their connection and come back, to whichever server.
        """
        return self._local or self._with(self._flags._replace(local=True))

    def compress(self, compress: bool) -> Operator:
        """Set whether transports may compress the packets.

        Args:
            compress: ``False`` for arguments that are compressed already, such as pictures.

        Returns:
            An operator for the same clients.

        Raises:
            ConfigurationError: ``compress`` is not a bool.
        """
        return self._with(self._flags.with_compress(compress))

    def timeout(self, seconds: float) -> Operator:
        """Set the timeout of `call`, instead of the server's ``ack_timeout_s``.

        Args:
            seconds: Seconds to wait for acks, a number above 0.

        Returns:
            An operator for the same clients.

        Raises:
            ConfigurationError: ``seconds`` is no number above 0.
        """
        return self._with(self._flags.with_timeout(seconds))

    # -- from where -----------------------------------------------------------------------------------------

    @property
    def from_thread(self) -> OperatorFromThread:
        """The same methods for threads, which wait for the result: ``io.from_thread.emit("tick", 1)``.

        For ``def`` handlers, threads of the application, and ``def`` views of FastAPI, Django or Flask.
        """
        return OperatorFromThread(self, self._members.own_loop)

    # -- events ---------------------------------------------------------------------------------------------

    async def emit(self, event: str, *args: Any) -> None:
        """Emit an event to the addressed clients; on a server or namespace, to all clients in it.

        Args:
            event: The event's name; none of Socket.IO's reserved names.
            args: The event's arguments: values that JSON can carry, and ``bytes`` anywhere in them.

        Raises:
            EncodingFailed: An argument can't be encoded, or the name is reserved.
            StorageError: The store did not take the event. No client gets it.
            WrongEventLoop: This runs on another event loop than the server. No client gets it; see `from_thread`.

        Delivery: in order, and once to each client that is connected or comes back in time. A volatile event goes at
        most once, to clients that can take it right now. This returns when the event is in the store. If it is
        cancelled, the event may be delivered all the same. The order is the order of the calls, also for volatile
        events: they wait for the events before them.
        """
        members, flags = self._members, self._flags
        # The same as `OwnLoop.check`, without its call: emits are frequent.
        own_loop = members.own_loop
        if get_ident() != own_loop.thread or not own_loop.is_running():
            raise own_loop.refusal("emit")
        encoded = members.codec.encode_event(members.namespace, event, args)
        target = self._target
        if flags.local:
            target = await members.on_this_server(target)
        if flags.volatile:
            await members.publish_volatile(target, encoded, compress=flags.compress)
        else:
            await members.publish(target, encoded, compress=flags.compress)

    def call(self, event: str, *args: Any) -> BroadcastCall:
        """Emit an event to the addressed clients that are connected, and collect their acks.

        Args:
            event: The event's name; none of Socket.IO's reserved names.
            args: The event's arguments, as for `emit`.

        Returns:
            A `BroadcastCall`. ``await`` it for a `BroadcastAnswers`; or iterate over it with ``async for`` for the
            answers as they come. The event is sent then, and not before.

        Raises:
            EncodingFailed: An argument can't be encoded, or the name is reserved.

        Delivery: at most once, in order, to the clients that are connected now: an event with an ack is not in the
        journal. A volatile event is not sent to a client that can't take it right now; that client is among the
        missing.
        """
        encoded = self._members.codec.encode_event(self._members.namespace, event, args)
        return BroadcastCall(self._members, self._target, encoded, self._flags)

    # -- the sockets ----------------------------------------------------------------------------------------

    async def fetch_sockets(self) -> FetchedSockets:
        """List the addressed sockets that are connected, or whose connect handlers run. May be cancelled.

        Returns:
            The sockets, also those on other servers of a cluster, and the servers that did not answer within 5 s.
        """
        self._members.own_loop.check("fetch_sockets")

        def address(sid: str) -> Operator:
            return Operator(self._members, Target(frozenset((sid,))), self._flags)

        return await fetch_sockets(self._members, self._target, address, local=self._flags.local)

    async def sockets_join(self, *rooms: Names) -> None:
        """Let the addressed clients join rooms, clients that are away and may come back included.

        When this returns, emits to the rooms reach them. If cancelled, they may still join.

        Args:
            rooms: As for `to`.

        Raises:
            ConfigurationError: An argument is no name of a room.
            StorageError: The store did not take the change. No client joined.
        """
        self._members.own_loop.check("sockets_join")
        names = as_names("room", rooms)
        target = self._target
        if self._flags.local:
            target = await self._members.on_this_server(target)
        await self._members.join(target, names)

    async def sockets_leave(self, *rooms: Names) -> None:
        """Let the addressed clients leave rooms, clients that are away and may come back included.

        When this returns, emits to the rooms no longer reach them. If cancelled, they may still leave.

        Args:
            rooms: As for `to`. A client does not leave the room of its own id.

        Raises:
            ConfigurationError: An argument is no name of a room.
            StorageError: The store did not take the change. No client left.
        """
        self._members.own_loop.check("sockets_leave")
        names = as_names("room", rooms)
        target = self._target
        if self._flags.local:
            target = await self._members.on_this_server(target)
        await self._members.leave(target, names)

    async def disconnect_sockets(self, *, close: bool = False) -> None:
        """Disconnect the addressed clients from the namespace, after all earlier emits.

        They do not reconnect by themselves. The sessions of those that are away end: they start anew when they come
        back, and ``session_expired`` is called for them now. A call in a connect handler or middleware never concerns
        the client that it runs for. If cancelled, the clients may still be disconnected.

        Args:
            close: Whether to close their whole connections too, with all their namespaces.

        Raises:
            StorageError: The store did not take the change. Those that are connected are disconnected all the same.
        """
        self._members.own_loop.check("disconnect_sockets")
        except_ = self._target.except_ | arriving()
        target = self._target
        if self._flags.local:
            target = await self._members.on_this_server(target)
        await self._members.disconnect(Target(target.rooms, target.except_ | except_), close=close)

    def _with(self, flags: Flags) -> Operator:
        return Operator(self._members, self._target, flags)


class Operator(Broadcasting):
    """The recipients of an emit and its options. It never changes: keep and share it.

    Made by ``to``, ``in_``, ``except_``, ``volatile``, ``compress``, ``local`` and ``timeout`` of a server or
    namespace, and by those of a socket that address other clients.
    """

    __slots__ = ("_flags", "_members", "_target")

    def __init__(self, members: Members, target: Target, flags: Flags) -> None:
        self._members = members
        self._target = target
        self._flags = flags


class OperatorFromThread:
    """Emits to many clients from a thread; each method waits for its result. Made by ``from_thread``.

    The methods have the arguments, results, errors and guarantees of the awaited ones. They are called on the
    server's event loop, with the thread's context variables. On that loop itself they raise `ConfigurationError`.
    """

    __slots__ = ("_inner", "_own_loop")

    def __init__(self, inner: Broadcasting, own_loop: OwnLoop) -> None:
        self._inner = inner
        self._own_loop = own_loop

    def run(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Await any function on the server's event loop: ``io.from_thread.run(io.queue_infos, limit=10)``.

        Args:
            function: An ``async def``, of the server or of the application.
            args: Its arguments.
            kwargs: Its named arguments.

        Returns:
            Its result.

        Raises:
            ConfigurationError: The caller runs on that loop itself.
            StoreClosed: The server has not started, or was closed.
            Exception: Any error that the function raises.
        """
        return self._own_loop.call(getattr(function, "__name__", "run"), function, *args, **kwargs)

    def to(self, *rooms: Names) -> OperatorFromThread:
        """Address the members of rooms; see `Operator.to`."""
        return self._inner.to(*rooms).from_thread

    in_ = to

    def except_(self, *rooms: Names) -> OperatorFromThread:
        """Leave out the members of rooms; see `Operator.except_`."""
        return self._inner.except_(*rooms).from_thread

    @property
    def volatile(self) -> OperatorFromThread:
        """An operator that drops an event for clients that can't take it at once; see `Operator.volatile`."""
        return self._inner.volatile.from_thread

    @property
    def local(self) -> OperatorFromThread:
        """An operator for the clients of this server; see `Operator.local`."""
        return self._inner.local.from_thread

    def compress(self, compress: bool) -> OperatorFromThread:
        """Set whether transports may compress the packets; see `Operator.compress`."""
        return self._inner.compress(compress).from_thread

    def timeout(self, seconds: float) -> OperatorFromThread:
        """Set the timeout of `call`; see `Operator.timeout`."""
        return self._inner.timeout(seconds).from_thread

    emit = blocking(Broadcasting.emit)
    fetch_sockets = blocking(Broadcasting.fetch_sockets)
    sockets_join = blocking(Broadcasting.sockets_join)
    sockets_leave = blocking(Broadcasting.sockets_leave)
    disconnect_sockets = blocking(Broadcasting.disconnect_sockets)
    call = blocking(Broadcasting.call)
