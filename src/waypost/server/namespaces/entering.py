"""A client's CONNECT packets for one namespace, of which the newest counts, and its events before the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from waypost.protocol.packet import Packet, PacketType

if TYPE_CHECKING:
    from waypost.server.connections.connection import Connection
    from waypost.server.events.pending import Pending
    from waypost.server.namespaces.admission import Admission
    from waypost.server.namespaces.channel import Channel

__all__ = ["Entering"]


class Entering:
    """A client's way into one namespace, on one connection.

    A client may send CONNECT again before it has the answer to the last one: ``connect()``, ``disconnect()`` and
    ``connect()`` in a row send two of them, without a DISCONNECT between. The newest one counts, and withdraws the
    one before. It waits until the application's code for the one before has ended, and its disconnect was told.

    Args:
        connection: The connection.
        pending: The bytes of the connection's unhandled events.
        max_events: The number of waiting events at which reading from the connection pauses.
        replaces: Whether the client may believe that it is connected: a socket of this connection has just ended, and
            its answer may still be on its way.
        earlier: The last socket of this connection in the namespace, if its handlers still run.
    """

    __slots__ = ("_connection", "_earlier", "_events", "_max_events", "_newest", "_pending", "_replaces")

    def __init__(
        self, connection: Connection, pending: Pending, *, max_events: int, replaces: bool, earlier: Channel | None
    ) -> None:
        self._connection = connection
        self._pending = pending
        self._max_events = max_events
        self._replaces = replaces
        self._earlier = earlier
        self._newest: Admission | None = None
        self._events: list[tuple[Packet, int]] = []

    def ask(self, admission: Admission) -> None:
        """Take a CONNECT, which withdraws the one before."""
        earlier, self._newest = self._newest, admission
        if earlier is not None:
            earlier.withdraw(admission.pid)

    def leave(self, reason: str) -> None:
        """Note that the client no longer wants to enter, or has left."""
        self._let_go_of_events()
        if self._newest is not None:
            self._newest.leave(reason)

    async def run(self) -> tuple[Admission, Channel] | None:
        """Run the admissions one after the other, up to the newest.

        Returns:
            The admission that let the client in, and its channel. ``None`` if the client was refused or has left.
        """
        try:
            while (admission := self._newest) is not None:
                if self._earlier is not None:
                    await self._earlier.over()
                    self._earlier = None
                channel = None if admission.has_left else await admission.run()
                if channel is not None:
                    return admission, channel
                self._earlier = admission.channel
                if self._earlier is not None:
                    self._earlier.abandon()
                if admission is self._newest:
                    return None
        except BaseException:
            # The server stops: nothing more is told of a client that is not in.
            if self._newest is not None and self._newest.channel is not None:
                self._newest.channel.abandon()
            raise
        finally:
            self._connection.resume_reading(self)
        return None

    def hold(self, packet: Packet, size: int) -> bool:
        """Keep an event that arrived before the answer; returns False if the client can't have sent it yet.

        A client that mistakes the answer to an earlier CONNECT for the answer to its last one sends events at once.
        """
        if packet.type is not PacketType.EVENT or not self._replaces:
            return False
        self._events.append((packet, size))
        self._pending.put(size)
        if len(self._events) >= self._max_events:
            self._connection.pause_reading(self)
        return True

    def hand_over(self, channel: Channel) -> None:
        """Pass the events that arrived before the answer to the socket that was admitted."""
        for packet, size in self._let_go_of_events():
            channel.receive_event(packet, size)

    def _let_go_of_events(self) -> list[tuple[Packet, int]]:
        events, self._events = self._events, []
        self._pending.drop(sum(size for _, size in events))
        return events
