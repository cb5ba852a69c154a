"""One client in one namespace: what goes out to it in which order, and its rooms.

A gate is shut until the CONNECT packet, and whatever was missed, is written; what is delivered meanwhile is held, and
follows when the gate opens. What comes in goes to its inbox.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

from waypost.errors import NotConnected, StorageError
from waypost.protocol.codec import Codec, EncodedEvent
from waypost.protocol.engineio import Frame
from waypost.protocol.extension import client_revision
from waypost.protocol.packet import Packet
from waypost.server.emitting.acks import PendingAcks
from waypost.server.events.inbox import Inbox
from waypost.server.events.registry import SOCKET_MOMENTS, Registry
from waypost.server.namespaces.socket import Socket
from waypost.server.watching.hooks import SocketConnected, SocketDisconnected

if TYPE_CHECKING:
    from waypost.server.basics.handshake import Handshake
    from waypost.server.connections.connection import Connection
    from waypost.server.namespaces.namespace import Namespace
    from waypost.server.recovery.live_session import LiveSession
    from waypost.server.recovery.recovery import RecoveryOutcome
    from waypost.typed.handlers import Handler

__all__ = ["Channel"]

logger = logging.getLogger("waypost.socket")

_FINAL_REASONS = frozenset({"client namespace disconnect", "server namespace disconnect", "parse error"})
"""After these a client does not come back to its session, as with Node's server."""

_NO_ROOMS: frozenset[str] = frozenset()
_REPLAY_SHARE = 4
"""A replay goes on once less than this share of what makes a client slow is waiting to be sent."""


class Channel:
    """One client in one namespace, below its public `Socket`.

    Attributes:
        sid: The socket's id.
        namespace: The namespace it is in.
        data: The application's data.
        handshake: What the client said of itself.
        client_revision: Which revision of `protocol.extension` it speaks; 0 for official clients.
        recovered: Whether it goes on where it was.
        recovery: Why not, and how much it had missed.
        session: What the store keeps of it; ``None`` if it can't recover, or is not let in yet.
        resuming: The session that it will take over if it is let in.
        acks: What it still has to acknowledge.
        socket: What handlers are given.
        registry: What the application has registered for it alone; ``None`` while it has nothing.
        gates: The middleware that each of its events has to pass.
        left_because: Why it is gone; ``None`` while it is not.
        when_left: Called when it has ended.
    """

    __slots__ = (
        "_connection",
        "_early_rooms",
        "_held",
        "_held_bytes",
        "_inbox",
        "_is_registered",
        "_last_rooms",
        "_was_connected",
        "acks",
        "client_revision",
        "connected",
        "data",
        "data_touched",
        "gates",
        "handshake",
        "left_because",
        "namespace",
        "recovered",
        "recovery",
        "registry",
        "resuming",
        "session",
        "sid",
        "socket",
        "takes_offset",
        "when_left",
    )

    def __init__(
        self,
        namespace: Namespace,
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
        self.data = data
        self.data_touched = False
        self.handshake = handshake
        self.client_revision = client_revision(handshake.headers)
        self.recovered = recovered
        self.recovery = recovery
        self.takes_offset = takes_offset
        self.session: LiveSession | None = None
        self.resuming: LiveSession | None = None
        self.acks: PendingAcks = namespace.new_acks()
        self.connected = False
        self.when_left: Callable[[], None] | None = None
        self.left_because: str | None = None
        self.socket = Socket(self)
        self.registry: Registry | None = None
        self.gates: tuple[Handler, ...] = ()
        self.namespace = namespace
        self._connection = connection
        self._held: list[tuple[tuple[Frame, ...], bool]] | None = []
        self._held_bytes = 0
        self._inbox = Inbox(self)
        self._early_rooms: list[str] = []
        self._last_rooms = _NO_ROOMS
        self._is_registered = False
        self._was_connected = False

    @property
    def codec(self) -> Codec:
        """What its packets are written in."""
        return self.namespace.codec

    @property
    def transport(self) -> str:
        """The name of the transport that carries it."""
        return self._connection.transport

    @property
    def connection_number(self) -> int:
        """The number of the connection that carries it; a later one's is higher."""
        return self._connection.number

    @property
    def own_registry(self) -> Registry:
        """What the application has registered for it alone, to be added to."""
        if self.registry is None:
            self.registry = Registry(0, SOCKET_MOMENTS)
        return self.registry

    # -- out ------------------------------------------------------------------------------------------------

    def deliver(self, frames: tuple[Frame, ...], position: int, compress: bool) -> None:
        """Take an event of the feed, in order, with its frames for this client; see `tell_outgoing` for listeners."""
        if self._held is None:
            self._connection.send(frames, compress=compress)
        else:
            self.send(frames, compress=compress)
        # What is held counts already: until the gate opens, what is proven ends before it.
        if self.session is not None:
            self.session.last = position

    def _frames(self, event: EncodedEvent, offset: str | None) -> tuple[Frame, ...]:
        self.tell_outgoing(event)
        return event.frames_with_offset(offset) if offset and self.takes_offset else event.frames()

    def tell_outgoing(self, event: EncodedEvent) -> None:
        """Tell listeners of all outgoing events of one that goes out to this client."""
        for registry in self.namespace.registries:
            if registry.catch_alls.outgoing:
                registry.catch_alls.tell_outgoing(self, event)
        if self.registry is not None and self.registry.catch_alls.outgoing:
            self.registry.catch_alls.tell_outgoing(self, event)

    def deliver_volatile(self, event: EncodedEvent, offset: str | None, *, compress: bool) -> None:
        """Take an event of the feed if it can leave now."""
        if self.is_writable:
            self.send(self._frames(event, offset), compress=compress)

    @property
    def is_writable(self) -> bool:
        """Whether what is sent now leaves at once."""
        return self._held is None and self._connection.writable

    def send(self, frames: tuple[Frame, ...], *, compress: bool = True) -> None:
        """Send a packet, behind what is held."""
        if self._held is None:
            self._connection.send(frames, compress=compress)
            return
        self._held.append((frames, compress))
        self._held_bytes += sum(map(len, frames))
        if self._held_bytes > self.namespace.max_buffered_bytes:
            self._connection.abort("slow client")

    def send_expecting_ack(
        self, event: EncodedEvent, *, survives: bool, compress: bool = True
    ) -> tuple[int, asyncio.Future[list[Any] | None]]:
        """Send an event that asks for an ack.

        Args:
            event: The event.
            survives: Whether it is sent again if the client comes back on another connection.
            compress: Whether its packet may be compressed.

        Returns:
            The ack id, to be forgotten by whoever stops waiting, and a future: the ack's arguments, or ``None`` if
            none will come.
        """
        if self.left_because is not None:
            raise NotConnected(self.sid, self.namespace.name, f"emit {event.event}")
        ack_id, answer = self.acks.expect(event, survives=survives)
        self.send_with_ack(event, ack_id, compress=compress)
        return ack_id, answer

    def send_with_ack(self, event: EncodedEvent, ack_id: int, *, compress: bool) -> None:
        """Send an event whose ack is expected already."""
        self.tell_outgoing(event)
        self.send(event.frames_with_ack(ack_id), compress=compress)

    def start(self, connect: tuple[Frame, ...]) -> None:
        """Write the CONNECT packet: the client is connected; the gate stays shut for a replay."""
        self.connected = True
        hook = self.namespace.hooks.socket_connected
        if hook.observers:
            hook.tell(SocketConnected(self._connection.number, self.sid, self.namespace.name, self.recovered))
        self._connection.send(connect)

    async def replay(self, event: EncodedEvent, offset: str, position: int) -> bool:
        """Write a missed event past the shut gate.

        Args:
            event: The event.
            offset: Its position, as the client gets it.
            position: Its position, up to which all is then sent.

        Returns:
            Whether the connection is still open.
        """
        if not await self._connection.wait_for_room(self.namespace.max_buffered_bytes // _REPLAY_SHARE):
            return False
        self._connection.send(self._frames(event, offset))
        if self.session is not None:
            self.session.progress = position
            self.session.last = max(self.session.last, position)
        return True

    def open_gate(self) -> None:
        """Let out what was held; from here on everything goes straight out."""
        held, self._held = self._held, None
        for frames, compress in held or ():
            self._connection.send(frames, compress=compress)
        if self.session is not None:
            self.session.progress = None
        self.namespace.gate_opened(self)

    @property
    def is_live(self) -> bool:
        """Whether what is sent now goes straight out."""
        return self._held is None and self.left_because is None

    def has_room(self, size: int) -> bool:
        """Tell whether a message of so many bytes may go out without making this client a slow one."""
        buffered = self._connection.buffered_bytes
        return not buffered or buffered + size <= self.namespace.max_buffered_bytes // 2

    async def wait_for_room(self, size: int) -> bool:
        """Wait until `has_room`; returns whether the connection is still open. May be cancelled."""
        return await self._connection.wait_for_room(max(self.namespace.max_buffered_bytes // 2 - size, 1))

    # -- rooms ----------------------------------------------------------------------------------------------

    @property
    def rooms(self) -> frozenset[str]:
        """The rooms it is in, its own id among them; once it is gone, those it was in until `forget_rooms`."""
        return self._last_rooms if self.left_because is not None else self.namespace.index.rooms_of(self)

    def forget_rooms(self) -> None:
        """Note that the application has been told that it is going."""
        self._last_rooms = _NO_ROOMS

    def register(self, rooms: Iterable[str]) -> None:
        """Enter the index: from here on what is delivered is meant for it too."""
        self._is_registered = True
        self.namespace.index.add(self, rooms)

    async def join(self, rooms: Collection[str]) -> None:
        """Join rooms, from this point of the feed on."""
        if self.left_because is not None:
            raise NotConnected(self.sid, self.namespace.name, "join a room")
        if not self._is_registered:
            self._early_rooms.extend(rooms)
        elif self.session is None:
            self.namespace.index.add(self, rooms)
        else:
            # When it is committed, the client may have come back: it counts for whoever owns the session then.
            key, join = self.session.key, self.session.join
            await self.namespace.feed.write(
                lambda committed: join(rooms, committed), lambda _: self.namespace.add_to_rooms(key, rooms)
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
            await self.namespace.feed.write(
                lambda committed: leave(rooms, committed), lambda _: self.namespace.take_from_rooms(key, rooms)
            )
        elif self._is_registered:
            self.namespace.index.leave(self, rooms)

    # -- in -------------------------------------------------------------------------------------------------

    def receive_event(self, packet: Packet) -> None:
        """Take an event of the client; it is handled after those before it."""
        self._inbox.receive(packet)

    def receive_ack(self, packet: Packet) -> None:
        """Take an ack of the client."""
        if packet.ack_id is None or not self.acks.receive(packet.ack_id, packet.data):
            self.namespace.count_unexpected_ack()
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
        if self.namespace.owner(self.session.key) not in (self, None):
            return  # the client has come back meanwhile, and what is stored now is the new connection's
        self.data_touched = False
        try:
            await self.session.save(self.data)
        except StorageError as problem:
            logger.error("socket.data of %s is not stored: %s", self.sid, problem)

    # -- the end --------------------------------------------------------------------------------------------

    def disconnect(self) -> None:
        """Tell the client that it is disconnected from this namespace, and end.

        One that has not been told yet that it is connected is told both by its admission.
        """
        if self.left_because is None:
            if self.connected:
                self._connection.send(self.codec.encode_disconnect(self.namespace.name))
            self.close("server namespace disconnect")

    def close_connection(self) -> None:
        """Disconnect the client from all its namespaces and close its connection, after what was sent."""
        self._connection.dismiss()

    def close(self, reason: str) -> None:
        """End: leave all rooms, keep or end the session, let the disconnect handler run after what came before."""
        if self.left_because is not None:
            return
        self._end(reason, recoverable=self.session is not None and reason not in _FINAL_REASONS)
        if self._was_connected:
            self.tell_disconnected()

    def refuse(self) -> None:
        """End before it was ever connected; a recovered session stays, so that its client may try again."""
        if self.left_because is None:
            self._end("server namespace disconnect", recoverable=self.recovered)

    def supersede(self) -> None:
        """End because the client has come back on another connection; the old one ends with all it carries."""
        self._connection.abort("transport close")
        self.close("transport close")

    def tell_disconnected(self) -> None:
        """Let the disconnect handler run, after the events that came before."""
        self._inbox.tell_disconnected(self.left_because or "")

    def _end(self, reason: str, *, recoverable: bool) -> None:
        self._was_connected = self.connected
        hook = self.namespace.hooks.socket_disconnected
        if self.connected and hook.observers:
            hook.tell(SocketDisconnected(self._connection.number, self.sid, self.namespace.name, reason))
        self._last_rooms = self.namespace.index.rooms_of(self)
        self.left_because = reason
        self.connected = False
        self._held = None
        if recoverable:
            self.acks.lose_connection()
        else:
            self.acks.close()
        self.namespace.drop(self, recoverable=recoverable)
        if self.when_left is not None:
            self.when_left()
