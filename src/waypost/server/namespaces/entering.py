"""A client's CONNECTs for one namespace, of which the newest counts, and what it sends before the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from waypost.protocol.packet import Packet, PacketType

if TYPE_CHECKING:
    from waypost.server.connections.connection import Connection
    from waypost.server.namespaces.admission import Admission
    from waypost.server.namespaces.channel import Channel

__all__ = ["Entering"]


class Entering:
    """A client's way into one namespace, over one connection.

    A client may send CONNECT again before it has the answer to the one before: ``connect()``, ``disconnect()`` and
    ``connect()`` in a row send two of them, and no DISCONNECT between. The newest one counts, and withdraws the one
    before. It has to wait until the code that the application runs for the one before has ended.

    Args:
        connection: The connection.
        max_events: From this number of waiting events on, we read no more from the connection.
        replaces: Whether the client may believe that it is connected already: a socket of this connection has just
            ended, whose answer may still be on its way.
    """

    __slots__ = ("_connection", "_events", "_max_events", "_newest", "_replaces")

    def __init__(self, connection: Connection, *, max_events: int, replaces: bool) -> None:
        self._connection = connection
        self._max_events = max_events
        self._replaces = replaces
        self._newest: Admission | None = None
        self._events: list[Packet] = []

    def ask(self, admission: Admission) -> None:
        """Take a CONNECT, which withdraws the one before."""
        earlier, self._newest = self._newest, admission
        if earlier is not None:
            earlier.withdraw(admission.pid)

    def leave(self, reason: str) -> None:
        """Note that the client wants in no more, or is gone."""
        self._events.clear()
        if self._newest is not None:
            self._newest.leave(reason)

    async def run(self) -> tuple[Admission, Channel] | None:
        """Run the admissions one after the other, up to the newest.

        Returns:
            The admission that let the client in, and its channel. ``None`` if the client was refused or is gone.
        """
        try:
            while (admission := self._newest) is not None:
                channel = None if admission.has_left else await admission.run()
                if channel is not None:
                    return admission, channel
                if admission.channel is not None:
                    admission.channel.abandon()
                if admission is self._newest:
                    return None
        finally:
            self._connection.resume_reading(self)
        return None

    def hold(self, packet: Packet) -> bool:
        """Keep an event that came before the answer; returns False if the client could not send it yet.

        A client that takes the answer to an earlier CONNECT for the answer to its last one sends events at once.
        """
        if packet.type is not PacketType.EVENT or not self._replaces:
            return False
        self._events.append(packet)
        if len(self._events) >= self._max_events:
            self._connection.pause_reading(self)
        return True

    def hand_over(self, channel: Channel) -> None:
        """Give the socket that was let in the events that came before the answer."""
        for packet in self._events:
            channel.receive_event(packet)
