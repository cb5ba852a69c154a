"""What goes out to one client in one namespace, and in which order.

Until the CONNECT packet, and everything the client had missed, is written, what is delivered is held back. It follows
when the client goes live.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from waypost.errors import NotConnected
from waypost.protocol.codec import EncodedEvent
from waypost.protocol.engineio import Frame
from waypost.server.connections.connection import Connection
from waypost.server.emitting.acks import PendingAcks

__all__ = ["Addressee", "Outflow", "SendProgress"]

_REPLAY_SHARE = 4
"""A replay goes on once less than this share of what makes a client slow is waiting to be sent."""


class Addressee(Protocol):
    """The member that it goes out to."""

    @property
    def sid(self) -> str:
        """The id of its socket."""
        ...

    @property
    def namespace(self) -> str:
        """The name of its namespace."""
        ...

    @property
    def left_because(self) -> str | None:
        """Why it has ended; ``None`` while it has not."""
        ...

    def tell_outgoing(self, event: EncodedEvent) -> None:
        """Tell the application's listeners of an event that goes out to it."""
        ...


class SendProgress(Protocol):
    """How far a stored session has been sent everything.

    Attributes:
        last: The position of the last event that was sent.
        progress: The position replayed so far; ``None`` once the member is live.
    """

    last: int
    progress: int | None


class Outflow:
    """What goes out to one client in one namespace.

    Args:
        addressee: The member.
        connection: The connection that carries it.
        acks: The acks that are awaited.
        takes_offset: Whether each event carries its offset.
        max_buffered_bytes: How many bytes may be held, and may wait in the connection.

    Attributes:
        acks: The acks that are awaited.
        takes_offset: Whether each event carries its offset.
        session: The session that is kept for the client; ``None`` if none is.
    """

    __slots__ = (
        "_addressee",
        "_connection",
        "_held",
        "_held_bytes",
        "_max_buffered_bytes",
        "acks",
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
        self._addressee = addressee
        self._connection = connection
        self._max_buffered_bytes = max_buffered_bytes
        self._held: list[tuple[tuple[Frame, ...], bool]] | None = []
        self._held_bytes = 0

    # -- events and packets ---------------------------------------------------------------------------------

    def deliver(self, frames: tuple[Frame, ...], position: int, compress: bool) -> None:
        """Take an event of the feed, in order, with its frames for this client; the caller tells the listeners."""
        if self._held is None:
            self._connection.send(frames, compress=compress)
        else:
            self.send(frames, compress=compress)
        # What is held counts already: until the client goes live, what is proven ends before it.
        if self.session is not None:
            self.session.last = position

    def deliver_volatile(self, event: EncodedEvent, offset: str | None, *, compress: bool) -> None:
        """Take an event of the feed if it can leave now."""
        if self.is_writable:
            self.send(self._frames(event, offset), compress=compress)

    def send(self, frames: tuple[Frame, ...], *, compress: bool = True) -> None:
        """Send a packet, behind what is held."""
        if self._held is None:
            self._connection.send(frames, compress=compress)
            return
        self._held.append((frames, compress))
        self._held_bytes += sum(map(len, frames))
        if self._held_bytes > self._max_buffered_bytes:
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
            The ack id, to be forgotten by the caller when it stops waiting, and a future: the ack's arguments, or
            ``None`` if none will come.

        Raises:
            NotConnected: The member has ended.
        """
        addressee = self._addressee
        if addressee.left_because is not None:
            raise NotConnected(addressee.sid, addressee.namespace, f"emit {event.event}")
        ack_id, answer = self.acks.expect(event, survives=survives)
        self.send_with_ack(event, ack_id, compress=compress)
        return ack_id, answer

    def send_with_ack(self, event: EncodedEvent, ack_id: int, *, compress: bool) -> None:
        """Send an event whose ack is expected already."""
        self._addressee.tell_outgoing(event)
        self.send(event.frames_with_ack(ack_id), compress=compress)

    def _frames(self, event: EncodedEvent, offset: str | None) -> tuple[Frame, ...]:
        self._addressee.tell_outgoing(event)
        return event.frames_with_offset(offset) if offset and self.takes_offset else event.frames()

    # -- until it is live -----------------------------------------------------------------------------------

    def start(self, connect: tuple[Frame, ...]) -> None:
        """Write the CONNECT packet, before what is held."""
        self._connection.send(connect)

    async def replay(self, event: EncodedEvent, offset: str, position: int) -> bool:
        """Write a missed event, before what is held.

        Args:
            event: The event.
            offset: Its position, as the client gets it.
            position: Its position, up to which all is then sent.

        Returns:
            Whether the connection is still open.
        """
        if not await self._connection.wait_for_room(self._max_buffered_bytes // _REPLAY_SHARE):
            return False
        self._connection.send(self._frames(event, offset))
        if self.session is not None:
            self.session.progress = position
            self.session.last = max(self.session.last, position)
        return True

    def go_live(self) -> None:
        """Let out what was held; from here on everything goes straight out."""
        held, self._held = self._held, None
        for frames, compress in held or ():
            self._connection.send(frames, compress=compress)
        if self.session is not None:
            self.session.progress = None

    def drop_held(self) -> None:
        """Forget what is held: the member has ended."""
        self._held = None

    # -- its state ------------------------------------------------------------------------------------------

    @property
    def is_live(self) -> bool:
        """Whether what is sent now goes straight out."""
        return self._held is None and self._addressee.left_because is None

    @property
    def is_writable(self) -> bool:
        """Whether what is sent now leaves at once."""
        return self._held is None and self._connection.writable

    def has_room(self, size: int) -> bool:
        """Tell whether a message of so many bytes may go out without making this client a slow one."""
        buffered = self._connection.buffered_bytes
        return not buffered or buffered + size <= self._max_buffered_bytes // 2

    async def wait_for_room(self, size: int) -> bool:
        """Wait until `has_room`; returns whether the connection is still open. May be cancelled."""
        return await self._connection.wait_for_room(max(self._max_buffered_bytes // 2 - size, 1))
