"""One client in one namespace: its rooms, session and data, and its end.

Its `Outflow` handles outgoing packets, and its `Inbox` handles incoming events.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

from waypost.errors import NotConnected, StorageError
from waypost.logs import fields, get_logger
from waypost.protocol.codec import Codec, EncodedEvent
from waypost.protocol.engineio import Frame
from waypost.protocol.packet import Packet
from waypost.server.emitting.outflow import Outflow
from waypost.server.events.farewell import Farewell
from waypost.server.events.inbox import Inbox
from waypost.server.events.registry import SOCKET_MOMENTS, Registry
from waypost.server.watching.hooks import SocketConnected, SocketDisconnected

if TYPE_CHECKING:
    from waypost.server.basics.handshake import Handshake
    from waypost.server.basics.slices import Slices
    from waypost.server.calling.waits import Working
    from waypost.server.connections.connection import Connection
    from waypost.server.events.pending import Pending
    from waypost.server.namespaces.core import NamespaceCore
    from waypost.server.recovery.live_session import LiveSession
    from waypost.server.recovery.lives import Fate, Life
    from waypost.server.recovery.recovery import RecoveryOutcome
    from waypost.server.watching.hooks import Hooks
    from waypost.typed.handlers import Handler

__all__ = ["Channel"]

logger = get_logger("waypost.socket")

_FINAL_REASONS = frozenset({"client namespace disconnect", "server namespace disconnect", "parse error"})
"""After these reasons a client does not come back to its session, as with Node's server."""

_NOT_BROKEN = frozenset(
    {"client namespace disconnect", "server namespace disconnect", "forced server close", "server shutting down"}
)
"""Reasons of connections that one of the two sides has ended on purpose."""

_NO_ROOMS: frozenset[str] = frozenset()


class Channel:
    """One client in one namespace, below its public `Socket`.

    It is a `Member` for outgoing packets, an `EventSource` for incoming events, and an `Owner` of its session.

    Attributes:
        sid: The socket's id.
        core: The namespace.
        codec: The codec of its packets.
        namespace: The namespace's name.
        out: The outgoing packets.
        data: The application's data.
        data_touched: Whether a handler may have changed the data since it was stored.
        pending: The bytes of the connection's unhandled events.
        handshake: The client's request for the connection.
        client_revision: The revision of `protocol.extension` that the client speaks; 0 for official clients.
        recovered: Whether the client's session was recovered.
        recovery: The reason if it was not, and the number of missed events.
        session: The stored session; ``None`` before the client is admitted, and for clients without recovery.
        resuming: The session that the client takes over once it is admitted.
        socket: The `Socket` that handlers get.
        registry: The handlers of this socket alone; ``None`` without any.
        has_own_handlers: Whether there are handlers of this socket alone.
        middlewares: The middleware that each of its events has to pass.
        connected: Whether the server has answered the client's CONNECT, and the client has not left since.
        left_because: The reason of its end; ``None`` before the end.
        is_told: Whether the application has been told of it: its connect handlers were called.
        fate: Whether its session has ended for good, once the socket has ended and the client may come back.
        when_left: Called at its end.
        when_released: Called when its last handler has ended.
    """

    __slots__ = (
        "__weakref__",
        "_connection",
        "_early_rooms",
        "_farewell",
        "_inbox",
        "_is_awaited",
        "_is_greeting",
        "_is_registered",
        "_last_rooms",
        "_was_connected",
        "client_revision",
        "codec",
        "connected",
        "core",
        "data",
        "data_touched",
        "fate",
        "handshake",
        "has_own_handlers",
        "is_told",
        "left_because",
        "middlewares",
        "namespace",
        "out",
        "pending",
        "recovered",
        "recovery",
        "registry",
        "resuming",
        "session",
        "sid",
        "socket",
        "when_left",
        "when_released",
    )

    def __init__(
        self,
        core: NamespaceCore,
        connection: Connection,
        handshake: Handshake,
        *,
        pending: Pending,
        sid: str,
        data: dict[str, Any],
        recovered: bool,
        recovery: RecoveryOutcome,
        takes_offset: bool,
        client_revision: int,
    ) -> None:
        self.sid = sid
        self.core = core
        self.codec: Codec = core.codec
        self.namespace = core.name
        self.data = data
        self.data_touched = False
        self.pending = pending
        self.handshake = handshake
        self.client_revision = client_revision
        self.recovered = recovered
        self.recovery = recovery
        self.session: LiveSession | None = None
        self.resuming: LiveSession | None = None
        self.connected = False
        self.is_told = False
        self.fate: Fate | None = None
        self.when_left: Callable[[], None] | None = None
        self.when_released: Callable[[], None] | None = None
        self.left_because: str | None = None
        self.socket: Any = None
        self.registry: Registry | None = None
        self.has_own_handlers = False
        self.middlewares: tuple[Handler, ...] = ()
        self.out = Outflow(
            self,
            connection,
            core.new_acks(),
            takes_offset=takes_offset,
            max_buffered_bytes=core.parts.settings.max_buffered_bytes,
        )
        self._connection = connection
        self._inbox: Inbox | None = Inbox(self, core.handling)
        self._farewell: Farewell | None = None
        self._is_awaited = False
        self._is_greeting = False
        self._early_rooms: list[str] = []
        self._last_rooms = _NO_ROOMS
        self._is_registered = False
        self._was_connected = False

    @property
    def was_cut(self) -> bool:
        """True if its connection broke."""
        reason = self.left_because
        return reason is not None and reason not in _NOT_BROKEN and not self._connection.client_left

    @property
    def transport(self) -> str:
        """The name of its connection's transport."""
        return self._connection.transport

    @property
    def slices(self) -> Slices:
        """The time that its events share with the input of all clients."""
        return self._connection.slices

    @property
    def connection_number(self) -> int:
        """The number of its connection; a later connection has a higher number."""
        return self._connection.number

    @property
    def _hooks(self) -> Hooks:
        return self.core.parts.services.hooks

    @property
    def own_registry(self) -> Registry:
        """The handlers of this socket alone; made at the first use."""
        if self.registry is None:
            self.registry = Registry(0, SOCKET_MOMENTS)
            self.has_own_handlers = True
        return self.registry

    @property
    def is_gone(self) -> bool:
        """Whether it has ended, and its client can't come back to its session."""
        return self.left_because is not None and (self.fate is None or self.fate.is_sealed)

    # -- out ------------------------------------------------------------------------------------------------

    def tell_outgoing(self, event: EncodedEvent) -> None:
        """Call the application's listeners for outgoing events."""
        self.core.handling.tell_outgoing(self, event)

    def greet(self) -> None:
        """Note that the connect handlers are called now."""
        self.is_told = self._is_greeting = True

    def start(self, connect: tuple[Frame, ...]) -> None:
        """Answer CONNECT: the client is connected. Deliveries are still held back for the replay."""
        self._is_greeting = False
        self.connected = True
        hook = self._hooks.socket_connected
        if hook.observers:
            hook.tell(SocketConnected(self._connection.number, self.sid, self.namespace, self.recovered))
        self.out.start(connect)

    def go_live(self) -> None:
        """Send the packets that were held back. From now on packets are sent at once, messages of queues too."""
        self.out.go_live()
        self.core.parts.deliveries.went_live(self)

    # -- rooms ----------------------------------------------------------------------------------------------

    @property
    def rooms(self) -> frozenset[str]:
        """Its rooms, its own id included. After its end, its last rooms until `forget_rooms`."""
        return self._last_rooms if self.left_because is not None else self.core.index.rooms_of(self)

    def forget_rooms(self) -> None:
        """Note that the application was notified of the disconnect."""
        self._last_rooms = _NO_ROOMS

    def enter(self, session: LiveSession, rooms: Iterable[str]) -> None:
        """Own a session, and enter the index."""
        self.session = session
        self.out.begin(session)
        self.register(rooms)

    def register(self, rooms: Iterable[str]) -> None:
        """Enter the index: from now on it gets the deliveries of these rooms."""
        self._is_registered = True
        self.core.index.add(self, rooms)

    async def join(self, rooms: Collection[str]) -> None:
        """Join rooms at this point of the order.

        Raises:
            NotConnected: The client has left.
            StorageError: The store did not take the change.
        """
        if self.left_because is not None:
            raise NotConnected(self.sid, self.namespace, "join a room")
        if not self._is_registered:
            self._early_rooms.extend(rooms)
        elif self.session is None:
            await self._in_turn(lambda: self.core.index.add(self, rooms))
        else:
            # The client may have reconnected before the commit: the change applies to the session's current owner.
            key, join = self.session.key, self.session.join
            await self.core.feed.write(
                lambda committed: join(rooms, committed), lambda _: self.core.ownership.add_to_rooms(key, rooms)
            )

    async def join_early_rooms(self) -> None:
        """Join the rooms that middleware asked for before the client was admitted."""
        if self._early_rooms:
            await self.join(tuple(self._early_rooms))

    async def leave(self, rooms: Collection[str]) -> None:
        """Leave rooms at this point of the order. Its own id is never left.

        Raises:
            StorageError: The store did not take the change.
        """
        rooms = tuple(room for room in rooms if room != self.sid)
        if not self._is_registered:
            self._early_rooms = [room for room in self._early_rooms if room not in rooms]
        session = self.session or self.resuming
        if session is not None:
            # A leave takes effect at once, also in middleware: later emits are not for this client.
            key, leave = session.key, session.leave
            await self.core.feed.write(
                lambda committed: leave(rooms, committed), lambda _: self.core.ownership.take_from_rooms(key, rooms)
            )
        elif self._is_registered:
            await self._in_turn(lambda: self.core.index.leave(self, rooms))

    async def _in_turn(self, change: Callable[[], None]) -> None:
        """Change the rooms of a member without a session, if it is still there at this point of the order."""
        await self.core.feed.in_turn(lambda: None if self.left_because is not None else change())

    # -- in -------------------------------------------------------------------------------------------------

    def receive_event(self, packet: Packet, size: int) -> None:
        """Take an event of the client, which takes so many bytes in memory; it is handled after earlier events."""
        if self._inbox is not None:
            self._inbox.receive(packet, size)

    def receive_ack(self, packet: Packet) -> None:
        """Take an acknowledgement of the client."""
        if packet.ack_id is None or not self.out.acks.receive(packet.ack_id, packet.data):
            self.core.parts.services.counters.unexpected_acks += 1
            logger.debug(
                "socket %s sent an ack nobody waits for: %s", self.sid, packet.ack_id, extra=fields(sid=self.sid)
            )

    def pause_reading(self) -> None:
        """Stop reading from its connection."""
        self._connection.pause_reading(self)

    def resume_reading(self) -> None:
        """Read from its connection again."""
        self._connection.resume_reading(self)

    async def save_data(self) -> None:
        """Store the application's data if a handler may have changed it."""
        if not self.data_touched or self.session is None:
            return
        owner = self.core.ownership.owner(self.session.key)
        if owner is not None and owner is not self:
            # The client has reconnected, and the stored data belongs to the new connection.
            if owner.data is self.data:
                owner.data_touched = True
                await owner.save_data()
            return
        self.data_touched = False
        try:
            await self.session.save(self.data, self.sid)
        except StorageError as problem:
            logger.error(
                "socket.data of %s is not stored: %s",
                self.sid,
                problem,
                extra=fields(sid=self.sid, namespace=self.core.name),
            )

    # -- the end --------------------------------------------------------------------------------------------

    def disconnect(self, *, resumable: bool = False) -> None:
        """Send the client a DISCONNECT for this namespace, and end.

        If CONNECT is still unanswered, `Admission` sends CONNECT and then DISCONNECT.

        Args:
            resumable: Whether the client may come back to its session.
        """
        if self.left_because is None:
            if self.connected:
                self._connection.send(self.codec.encode_disconnect(self.namespace))
            self._close("server namespace disconnect", recoverable=resumable and self.session is not None)

    def close_connection(self) -> None:
        """Disconnect the client from all its namespaces and close its connection, after the frames already sent."""
        self._connection.dismiss()

    def close(self, reason: str) -> None:
        """End: leave all rooms, keep or end the session, and run the disconnect handler after earlier events."""
        if self.left_because is not None:
            return
        self._close(reason, recoverable=self.session is not None and reason not in _FINAL_REASONS)

    def withdraw(self, pid: str | None) -> None:
        """End: the client has sent another CONNECT for the namespace. The session is kept if that one names it.

        Args:
            pid: The private id that the other CONNECT names; ``None`` if it names none.
        """
        if self.left_because is None:
            recoverable = self.session is not None and self.session.pid == pid
            self._close("client namespace disconnect", recoverable=recoverable)

    def _close(self, reason: str, *, recoverable: bool) -> None:
        self._end(reason, recoverable=recoverable)
        if self._was_connected:
            self.tell_disconnected()
        elif self._is_greeting:
            self._part().limit()

    def refuse(self) -> None:
        """End before the client was connected. A recovered session stays, so that the client may try again."""
        if self.left_because is None:
            self._end("server namespace disconnect", recoverable=self.recovered)

    def supersede(self) -> None:
        """End because the client has reconnected; the old connection is closed with all its namespaces."""
        self._connection.abort("transport close")
        self.close("transport close")

    def tell_disconnected(self) -> None:
        """Run the disconnect handler, after the handlers of earlier events."""
        self._is_greeting = False
        if self._inbox is not None:
            self._inbox.tell_disconnected(self._part())
            if self._is_awaited:
                self._hurry(self._part())

    def _part(self) -> Farewell:
        if self._farewell is None:
            self._farewell = Farewell(self, self.core.handling, self.left_because or "", self._running)
        return self._farewell

    def _running(self) -> list[str]:
        if self._is_greeting:
            return ["connect"]
        return [] if self._inbox is None else self._inbox.running()

    @property
    def work(self) -> Working | None:
        """The handlers of its events; ``None`` once the last one has ended."""
        return self._inbox

    async def over(self) -> None:
        """Wait until the application was told of its end, its handlers before; see `Farewell.over`.

        Handlers that wait for an answer of this very client are not waited for.
        """
        if self._farewell is None:
            return
        self._is_awaited = True
        if not self._is_greeting:
            self._hurry(self._farewell)
        await self._farewell.over()

    def _hurry(self, farewell: Farewell) -> None:
        if self._inbox is not None and self._inbox.waits_for_client:
            farewell.hurry()

    def succeed(self, earlier: Life) -> None:
        """Follow on an earlier connection of the same client, whose handlers wait for an answer of the client.

        They go on when the client is back, with the same data, and before the handlers of its next events.
        """
        data = earlier.data
        data.clear()
        data.update(self.data)
        self.data = data
        if earlier.work is not None:
            self.follow(earlier.work)

    def follow(self, earlier: Working) -> None:
        """Handle events after the handlers of an earlier connection, which wait for an answer of the client."""
        if self._inbox is not None:
            self._inbox.follow(earlier)

    async def tell_ended(self) -> None:
        """Call the handlers of ``session_expired`` for a client that is lost, and for which no session is kept."""
        is_lost = self.left_because not in _FINAL_REASONS and not self.out.takes_offset
        if is_lost and self.core.parts.settings.recovery is not None:
            await self.core.tell_ended(self.sid, self.data)

    def abandon(self) -> None:
        """Note that the client was not let in. If its disconnect handlers are to be called, they end it."""
        if self._is_greeting and self._farewell is not None:
            self._farewell.call_off()
        self._is_greeting = False
        if self._inbox is None:
            return
        if not self._inbox.is_working:
            self.release()
        elif self._farewell is None:
            self._part().call_off()
            self._inbox.tell_disconnected(self._part())

    def release(self) -> None:
        """Let go of everything that refers back to it: its last handler has been called.

        All of it is freed at once then. The garbage collector comes seldom, and a handshake may be large.
        """
        self._inbox = self._farewell = self.socket = self.registry = None
        self.has_own_handlers = False
        self.middlewares = ()
        self.out.release()
        self.core.ownership.forget(self)
        if self.when_released is not None:
            released, self.when_released = self.when_released, None
            released()

    def _end(self, reason: str, *, recoverable: bool) -> None:
        self._was_connected = self.connected
        hook = self._hooks.socket_disconnected
        if self.connected and hook.observers:
            hook.tell(SocketDisconnected(self._connection.number, self.sid, self.namespace, reason))
        self._last_rooms = self.core.index.rooms_of(self)
        self.left_because = reason
        self.connected = False
        self.out.drop_held()
        if recoverable:
            self.out.acks.lose_connection()
        else:
            self.out.acks.close()
        self.core.drop(self, recoverable=recoverable)
        if self.when_left is not None:
            left, self.when_left = self.when_left, None
            left()
