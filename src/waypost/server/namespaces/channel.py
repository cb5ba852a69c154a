"""One client in one namespace: its rooms, its session, its data, and how it ends.

What goes out to the client goes through its `Outflow`; what comes in goes to its `Inbox`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

from waypost.errors import NotConnected, StorageError
from waypost.protocol.codec import Codec, EncodedEvent
from waypost.protocol.engineio import Frame
from waypost.protocol.extension import client_revision
from waypost.protocol.packet import Packet
from waypost.server.emitting.outflow import Outflow
from waypost.server.events.inbox import Inbox
from waypost.server.events.registry import SOCKET_MOMENTS, Registry
from waypost.server.watching.hooks import SocketConnected, SocketDisconnected

if TYPE_CHECKING:
    from waypost.server.basics.handshake import Handshake
    from waypost.server.connections.connection import Connection
    from waypost.server.namespaces.core import NamespaceCore
    from waypost.server.recovery.live_session import LiveSession
    from waypost.server.recovery.recovery import RecoveryOutcome
    from waypost.server.watching.hooks import Hooks
    from waypost.typed.handlers import Handler

__all__ = ["Channel"]

logger = logging.getLogger("waypost.socket")

_FINAL_REASONS = frozenset({"client namespace disconnect", "server namespace disconnect", "parse error"})
"""After these a client does not come back to its session, as with Node's server."""

_NO_ROOMS: frozenset[str] = frozenset()


class Channel:
    """One client in one namespace, below its public `Socket`.

    A `Member` for what goes out, a `EventSource` for what comes in, an `Owner` of its session.

    Attributes:
        sid: The socket's id.
        core: The namespace it is in.
        namespace: That namespace's name.
        out: What goes out to the client.
        data: The application's data.
        data_touched: Whether a handler may have changed the data since it was stored.
        handshake: What the client said of itself.
        client_revision: The revision of `protocol.extension` that it speaks; 0 for official clients.
        recovered: Whether it goes on where it was.
        recovery: Why not, and how much it had missed.
        session: What the store keeps of it; ``None`` if it can't recover, or is not let in yet.
        resuming: The session that it will take over if it is let in.
        socket: The `Socket` that handlers are given.
        registry: The handlers that the application has registered for it alone; ``None`` while there are none.
        has_own_handlers: Whether there are any.
        middlewares: The middleware that each of its events has to pass.
        connected: Whether the client was told that it is connected, and has not left since.
        left_because: Why it is gone; ``None`` while it is not.
        when_left: Called when it has ended.
    """

    __slots__ = (
        "_connection",
        "_early_rooms",
        "_inbox",
        "_is_registered",
        "_last_rooms",
        "_was_connected",
        "client_revision",
        "connected",
        "core",
        "data",
        "data_touched",
        "handshake",
        "has_own_handlers",
        "left_because",
        "middlewares",
        "namespace",
        "out",
        "recovered",
        "recovery",
        "registry",
        "resuming",
        "session",
        "sid",
        "socket",
        "when_left",
    )

    def __init__(
        self,
        core: NamespaceCore,
        connection: Connection,
        handshake: Handshake,
        *,
        sid: str,
        data: dict[str, Any],
        recovered: bool,
        recovery: RecoveryOutcome,
        takes_offset: bool,
    ) -> None:
        self.sid = sid
        self.core = core
        self.namespace = core.name
        self.data = data
        self.data_touched = False
        self.handshake = handshake
        self.client_revision = client_revision(handshake.headers)
        self.recovered = recovered
        self.recovery = recovery
        self.session: LiveSession | None = None
        self.resuming: LiveSession | None = None
        self.connected = False
        self.when_left: Callable[[], None] | None = None
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
        self._inbox = Inbox(self, core.handling)
        self._early_rooms: list[str] = []
        self._last_rooms = _NO_ROOMS
        self._is_registered = False
        self._was_connected = False

    @property
    def codec(self) -> Codec:
        """Writes its packets."""
        return self.core.codec

    @property
    def transport(self) -> str:
        """The name of the transport that carries it."""
        return self._connection.transport

    @property
    def connection_number(self) -> int:
        """The number of the connection that carries it. A later connection has a higher number."""
        return self._connection.number

    @property
    def _hooks(self) -> Hooks:
        return self.core.parts.services.hooks

    @property
    def own_registry(self) -> Registry:
        """The registry of its own handlers, made if need be."""
        if self.registry is None:
            self.registry = Registry(0, SOCKET_MOMENTS)
            self.has_own_handlers = True
        return self.registry

    # -- out ------------------------------------------------------------------------------------------------

    def tell_outgoing(self, event: EncodedEvent) -> None:
        """Tell the application's listeners of an event that goes out to this client."""
        self.core.handling.tell_outgoing(self, event)

    def start(self, connect: tuple[Frame, ...]) -> None:
        """Write the CONNECT packet: the client is connected; what is delivered is held for a replay."""
        self.connected = True
        hook = self._hooks.socket_connected
        if hook.observers:
            hook.tell(SocketConnected(self._connection.number, self.sid, self.namespace, self.recovered))
        self.out.start(connect)

    def go_live(self) -> None:
        """Let out what was held; from here on everything goes straight out, messages of queues too."""
        self.out.go_live()
        self.core.parts.deliveries.went_live(self)

    # -- rooms ----------------------------------------------------------------------------------------------

    @property
    def rooms(self) -> frozenset[str]:
        """The rooms it is in, its own id among them; once it is gone, those it was in until `forget_rooms`."""
        return self._last_rooms if self.left_because is not None else self.core.index.rooms_of(self)

    def forget_rooms(self) -> None:
        """Forget the rooms it was in: its disconnect handlers have been called."""
        self._last_rooms = _NO_ROOMS

    def enter(self, session: LiveSession, rooms: Iterable[str]) -> None:
        """Own a session, and enter the index."""
        self.session = self.out.session = session
        self.register(rooms)

    def register(self, rooms: Iterable[str]) -> None:
        """Enter the index: events for these rooms reach it from here on."""
        self._is_registered = True
        self.core.index.add(self, rooms)

    async def join(self, rooms: Collection[str]) -> None:
        """Join rooms, from this point of the feed on."""
        if self.left_because is not None:
            raise NotConnected(self.sid, self.namespace, "join a room")
        if not self._is_registered:
            self._early_rooms.extend(rooms)
        elif self.session is None:
            self.core.index.add(self, rooms)
        else:
            # When it is committed, the client may have come back: it counts for the owner of the session then.
            key, join = self.session.key, self.session.join
            await self.core.feed.write(
                lambda committed: join(rooms, committed), lambda _: self.core.ownership.add_to_rooms(key, rooms)
            )

    async def join_early_rooms(self) -> None:
        """Join the rooms that middleware asked for before the client was let in."""
        if self._early_rooms:
            await self.join(tuple(self._early_rooms))

    async def leave(self, rooms: Collection[str]) -> None:
        """Leave rooms, from this point of the feed on. Its own id is not left."""
        rooms = tuple(room for room in rooms if room != self.sid)
        if not self._is_registered:
            self._early_rooms = [room for room in self._early_rooms if room not in rooms]
        session = self.session or self.resuming
        if session is not None:
            # A leave counts at once, also in middleware: what is emitted from now on is not meant for it.
            key, leave = session.key, session.leave
            await self.core.feed.write(
                lambda committed: leave(rooms, committed), lambda _: self.core.ownership.take_from_rooms(key, rooms)
            )
        elif self._is_registered:
            self.core.index.leave(self, rooms)

    # -- in -------------------------------------------------------------------------------------------------

    def receive_event(self, packet: Packet) -> None:
        """Take an event of the client. It is handled after the events before it."""
        self._inbox.receive(packet)

    def receive_ack(self, packet: Packet) -> None:
        """Take an ack of the client."""
        if packet.ack_id is None or not self.out.acks.receive(packet.ack_id, packet.data):
            self.core.parts.services.counters.unexpected_acks += 1
            logger.debug("socket %s sent an ack nobody waits for: %s", self.sid, packet.ack_id)

    def pause_reading(self) -> None:
        """Read no more from its connection."""
        self._connection.pause_reading(self)

    def resume_reading(self) -> None:
        """Read from its connection again."""
        self._connection.resume_reading(self)

    async def save_data(self) -> None:
        """Store the application's data if a handler may have changed it."""
        if not self.data_touched or self.session is None:
            return
        if self.core.ownership.owner(self.session.key) not in (self, None):
            return  # the client has come back meanwhile, and what is stored now is the new connection's
        self.data_touched = False
        try:
            await self.session.save(self.data)
        except StorageError as problem:
            logger.error("socket.data of %s is not stored: %s", self.sid, problem)

    # -- the end --------------------------------------------------------------------------------------------

    def disconnect(self) -> None:
        """Tell the client that it is disconnected from this namespace, and end.

        If CONNECT is still unanswered, `Admission` sends CONNECT and then DISCONNECT.
        """
        if self.left_because is None:
            if self.connected:
                self._connection.send(self.codec.encode_disconnect(self.namespace))
            self.close("server namespace disconnect")

    def close_connection(self) -> None:
        """Disconnect the client from all its namespaces and close its connection, behind everything sent."""
        self._connection.dismiss()

    def close(self, reason: str) -> None:
        """End: leave all rooms, keep or end the session, and run the disconnect handlers behind earlier events."""
        if self.left_because is not None:
            return
        self._end(reason, recoverable=self.session is not None and reason not in _FINAL_REASONS)
        if self._was_connected:
            self.tell_disconnected()

    def refuse(self) -> None:
        """End before CONNECT was answered. A recovered session is kept, so that its client may try again."""
        if self.left_because is None:
            self._end("server namespace disconnect", recoverable=self.recovered)

    def supersede(self) -> None:
        """End: the client has come back on another connection. This connection ends, with all its channels."""
        self._connection.abort("transport close")
        self.close("transport close")

    def tell_disconnected(self) -> None:
        """Let the disconnect handler run, after the events that came before."""
        self._inbox.tell_disconnected(self.left_because or "")

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
            self.when_left()
