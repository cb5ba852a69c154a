"""The broadcast operator: the recipients of an emit and its options. Each step returns a new operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from waypost.checking.names import Names, as_names
from waypost.server.basics.targets import Target
from waypost.server.calling.arrival import arriving
from waypost.server.emitting.broadcast import BroadcastCall
from waypost.server.emitting.flags import Flags
from waypost.server.emitting.remote_socket import FetchedSockets, fetch_sockets

if TYPE_CHECKING:
    from waypost.server.emitting.members import Members

__all__ = ["Broadcasting", "Operator"]


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

    # -- events ---------------------------------------------------------------------------------------------

    async def emit(self, event: str, *args: Any) -> None:
        """Emit an event to the addressed clients; on a server or namespace, to all clients in it.

        Args:
            event: The event's name; none of Socket.IO's reserved names.
            args: The event's arguments: values that JSON can carry, and ``bytes`` anywhere in them.

        Raises:
            EncodingFailed: An argument can't be encoded, or the name is reserved.
            StorageError: The store did not take the event. No client gets it.

        Delivery: in order, and once to each client that is connected or comes back in time. A volatile event goes at
        most once, to clients that can take it right now. This returns when the event is in the store. If it is
        cancelled, the event may be delivered all the same. The order is the order of the calls, also for volatile
        events: they wait for the events before them.
        """
        encoded = self._members.codec.encode_event(self._members.namespace, event, args)
        compress = self._flags.compress
        target = self._target
        if self._flags.local:
            target = await self._members.on_this_server(target)
        if self._flags.volatile:
            await self._members.publish_volatile(target, encoded, compress=compress)
        else:
            await self._members.publish(target, encoded, compress=compress)

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
        names = as_names("room", rooms)
        await self._members.join(await self._resolved(), names)

    async def sockets_leave(self, *rooms: Names) -> None:
        """Let the addressed clients leave rooms, clients that are away and may come back included.

        When this returns, emits to the rooms no longer reach them. If cancelled, they may still leave.

        Args:
            rooms: As for `to`. A client does not leave the room of its own id.

        Raises:
            ConfigurationError: An argument is no name of a room.
            StorageError: The store did not take the change. No client left.
        """
        names = as_names("room", rooms)
        await self._members.leave(await self._resolved(), names)

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
        except_ = self._target.except_ | arriving()
        target = await self._resolved()
        await self._members.disconnect(Target(target.rooms, target.except_ | except_), close=close)

    async def _resolved(self) -> Target:
        return await self._members.on_this_server(self._target) if self._flags.local else self._target

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
