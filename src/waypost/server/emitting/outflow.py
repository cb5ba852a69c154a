"""The outgoing packets of one client in one namespace, and their order.

Deliveries are held back until the answer to CONNECT and the missed events are written. They follow when the client
goes live.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Protocol

from waypost.errors import NotConnected
from waypost.logs import by_client, fields, get_logger
from waypost.protocol.codec import EncodedEvent
from waypost.protocol.engineio import Frame
from waypost.server.connections.connection import Connection
from waypost.server.emitting.acks import AtCut, PendingAcks
from waypost.server.emitting.first_sent import FirstSent, SendProgress

__all__ = ["Addressee", "Outflow"]

logger = get_logger("waypost.emitting")

_REPLAY_SHARE = 4
"""A replay continues once the bytes that wait are below the limit for slow clients divided by this."""

_PROBE_AFTER_S = 0.05
"""We ask for a sign that a message of a queue has arrived if it is not acknowledged in this time."""


class Addressee(Protocol):
    """The member that gets the packets."""

    @property
    def sid(self) -> str:
        """The socket's id."""
        ...

    @property
    def namespace(self) -> str:
        """The namespace's name."""
        ...

    @property
    def left_because(self) -> str | None:
        """The reason of its end; ``None`` before the end."""
        ...

    def tell_outgoing(self, event: EncodedEvent) -> None:
        """Call the application's listeners for outgoing events."""
        ...


@dataclass(frozen=True, slots=True)
class _Departed:
    """The identity of a member that has ended."""

    sid: str
    namespace: str
    left_because: str | None

    def tell_outgoing(self, event: EncodedEvent) -> None:
        """Do nothing: no event goes out any more."""


class Outflow:
    """The outgoing packets of one client in one namespace.

    Args:
        addressee: The member.
        connection: The client's connection.
        acks: The pending acknowledgements.
        takes_offset: Whether each event carries its offset.
        max_buffered_bytes: The most bytes that may be held back, and that may wait in the connection.

    Attributes:
        acks: The pending acknowledgements.
        takes_offset: Whether each event carries its offset.
        session: How far the client's stored session was sent everything, or ``None`` without one.
        first: The first event that was sent of the journal; ``None`` without a session.
    """

    __slots__ = (
        "_addressee",
        "_connection",
        "_held",
        "_held_bytes",
        "_max_buffered_bytes",
        "_probing",
        "acks",
        "first",
        "session",
        "takes_offset",
    )

    def __init__(
        self,
        addressee: Addressee,
        connection: Connection,
        acks: PendingAcks,
        *,
        takes_offset: bool,
        max_buffered_bytes: int,
    ) -> None:
        self.acks = acks
        self.takes_offset = takes_offset
        self.session: SendProgress | None = None
        self.first: FirstSent | None = None
        self._addressee = addressee
        self._connection = connection
        self._max_buffered_bytes = max_buffered_bytes
        self._held: list[tuple[tuple[Frame, ...], bool]] | None = []
        self._held_bytes = 0
        self._probing: asyncio.TimerHandle | None = None

    def begin(self, session: SendProgress) -> None:
        """Note how far a stored session is sent everything from now on."""
        self.session = self.first = FirstSent(self, session)

    @property
    def closed_by_client(self) -> bool:
        """Whether the client closed the connection itself, as official clients do when they can't read an event."""
        return self._connection.closed_by_client

    def cut(self) -> None:
        """Close the connection, because the client would miss an event otherwise. It may come back to its session."""
        self._connection.close("forced server close")

    def release(self) -> None:
        """Let go of the member, which has ended."""
        self.session = self.first = None
        self._addressee = _Departed(self._addressee.sid, self._addressee.namespace, self._addressee.left_because)

    # -- events and packets ---------------------------------------------------------------------------------

    def deliver(self, frames: tuple[Frame, ...], position: int, compress: bool) -> None:
        """Take an event of the feed. The caller notifies the listeners.

        Args:
            frames: The event's frames for this client.
            position: The event's position in the journal.
            compress: Whether the transport may compress the packet.
        """
        if self._held is None:
            self._connection.send(frames, compress=compress)
        else:
            self.send(frames, compress=compress)
        # Counts held events too: until the client goes live, heartbeats prove only positions before them.
        if self.session is not None:
            self.session.last = position

    def deliver_volatile(self, event: EncodedEvent, offset: str | None, *, compress: bool) -> bool:
        """Take an event of the feed if it can leave at once; drop it otherwise. Returns whether it was taken."""
        if not self.is_writable:
            return False
        self.send(self._frames(event, offset), compress=compress)
        return True

    def send(self, frames: tuple[Frame, ...], *, compress: bool = True) -> None:
        """Send a packet, after the packets that are held back."""
        if self._held is None:
            self._connection.send(frames, compress=compress)
            return
        self._held.append((frames, compress))
        self._held_bytes += sum(map(len, frames))
        if self._held_bytes > self._max_buffered_bytes:
            logger.info(
                "closing the connection of socket %s: %d bytes wait until it has what it missed; max_buffered_bytes "
                "sets the limit",
                self._addressee.sid,
                self._held_bytes,
                extra=by_client(
                    fields(sid=self._addressee.sid, namespace=self._addressee.namespace, option="max_buffered_bytes")
                ),
            )
            self._connection.abort("slow client")

    def send_expecting_ack(
        self, event: EncodedEvent, at_cut: AtCut, *, compress: bool = True
    ) -> tuple[int, asyncio.Future[list[Any] | None]]:
        """Send an event that asks for an acknowledgement.

        Args:
            event: The event.
            at_cut: What the loss of the connection means to the event.
            compress: Whether the transport may compress the packet.

        Returns:
            The ack id, and a future of the acknowledgement's arguments, or of ``None`` if it will never arrive. A
            caller that stops waiting must forget the id.

        Raises:
            NotConnected: The member has ended.
        """
        addressee = self._addressee
        if addressee.left_because is not None:
            raise NotConnected(addressee.sid, addressee.namespace, f"emit {event.event}")
        ack_id, answer = self.acks.expect(event, at_cut)
        self.send_with_ack(event, ack_id, compress=compress)
        return ack_id, answer

    def send_with_ack(self, event: EncodedEvent, ack_id: int, *, compress: bool) -> None:
        """Send an event whose acknowledgement is expected already."""
        self._addressee.tell_outgoing(event)
        self.send(event.frames_with_ack(ack_id), compress=compress)

    def heartbeat_answered(self, number: int) -> None:
        """Note that the events before the connection's heartbeat of this number have arrived."""
        self.acks.heartbeat_answered(number)
        self.watch_arrival()

    def probe(self) -> None:
        """Ask the client for a sign that the events so far have arrived."""
        self._connection.probe()

    def watch_arrival(self) -> None:
        """Ask the client for a sign soon, unless its acknowledgements come before."""
        if self._probing is None and self.acks.awaits_arrival:
            self._probing = asyncio.get_running_loop().call_later(_PROBE_AFTER_S, self._probe_now)

    def _probe_now(self) -> None:
        self._probing = None
        if self.acks.awaits_arrival and self.is_live:
            # Without effect while another ping is unanswered; its answer starts this anew.
            self._connection.probe()

    def _frames(self, event: EncodedEvent, offset: str | None) -> tuple[Frame, ...]:
        self._addressee.tell_outgoing(event)
        return event.frames_with_offset(offset) if offset and self.takes_offset else event.frames()

    # -- until it is live -----------------------------------------------------------------------------------

    def start(self, connect: tuple[Frame, ...]) -> None:
        """Write the answer to CONNECT, before the packets that are held back."""
        self._connection.send_secret(connect)

    async def replay(self, event: EncodedEvent, offset: str, position: int) -> bool:
        """Write a missed event, before the packets that are held back. May be cancelled.

        Args:
            event: The event.
            offset: The event's offset for the client.
            position: The event's position; everything up to it is then sent.

        Returns:
            Whether the member is still there.
        """
        is_open = await self._connection.wait_for_room(self._max_buffered_bytes // _REPLAY_SHARE)
        if not is_open or self._addressee.left_because is not None:
            return False
        self._connection.send(self._frames(event, offset))
        if self.session is not None:
            self.session.progress = position
            self.session.last = max(self.session.last, position)
        return True

    def go_live(self) -> None:
        """Send the packets that were held back. From now on packets are sent at once."""
        held, self._held = self._held, None
        for frames, compress in held or ():
            self._connection.send(frames, compress=compress)
        if self.session is not None:
            self.session.progress = None

    def drop_held(self) -> None:
        """Drop the packets that are held back, because the member has ended."""
        self._held = None
        if self._probing is not None:
            self._probing.cancel()
            self._probing = None

    # -- its state ------------------------------------------------------------------------------------------

    @property
    def is_live(self) -> bool:
        """Whether packets are sent at once."""
        return self._held is None and self._addressee.left_because is None

    @property
    def is_holding(self) -> bool:
        """Whether live events are held back."""
        return self._held is not None

    @property
    def buffered_bytes(self) -> int:
        """The number of bytes that wait in the connection."""
        return self._connection.buffered_bytes

    @property
    def stalled_since(self) -> float:
        """The time since which frames wait in the connection and none was taken; infinity if none waits."""
        return self._connection.stalled_since

    @property
    def is_writable(self) -> bool:
        """Whether a packet sent now leaves at once."""
        return self._held is None and self._connection.writable

    def has_room(self, size: int) -> bool:
        """Return whether a message of this size keeps the client below the limit for slow clients."""
        buffered = self._connection.buffered_bytes
        return not buffered or buffered + size <= self._max_buffered_bytes // 2

    async def wait_for_room(self, size: int) -> bool:
        """Wait until `has_room`. May be cancelled.

        Returns:
            Whether the connection is still open.
        """
        return await self._connection.wait_for_room(max(self._max_buffered_bytes // 2 - size, 1))
