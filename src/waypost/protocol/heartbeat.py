"""The heartbeat of an Engine.IO session, on the server's side: who pings, and when silence has lasted too long.

In revision 4 the server pings and the client answers, in revision 3 it is the other way round. Source: Engine.IO
protocol, revisions 4 and 3 ("Heartbeat").
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from waypost.errors import MalformedPacket

__all__ = ["ClientPings", "Heartbeat", "Pulse", "ServerPings"]

_PING = "2"
_PONG = "3"


class Pulse(NamedTuple):
    """What a heartbeat packet of the client calls for.

    Attributes:
        reply: The packet to answer with, or ``None``.
        proves_arrival: Whether all that was sent before the server's last ping has arrived.
    """

    reply: str | None = None
    proves_arrival: bool = False


class Heartbeat(Protocol):
    """One session's heartbeat.

    Attributes:
        deadline: When there is something to do: a ping to send, or a silence that has lasted too long.
    """

    deadline: float

    def is_overdue(self, now: float) -> bool:
        """Tell whether the client has been silent for too long."""
        ...

    def take_ping(self, now: float) -> str | None:
        """Take the ping that is due, to be sent now; ``None`` if none is."""
        ...

    def hear(self, now: float) -> None:
        """Note a packet of the client that is no heartbeat."""
        ...

    def receive(self, frame: str, now: float) -> Pulse:
        """Take a ping or pong packet of the client.

        Raises:
            MalformedPacket: It is not the client who sends this one.
        """
        ...


class ServerPings:
    """The heartbeat of revision 4: the server pings, the client answers in time.

    Args:
        interval_s: Seconds from a ping to the next, if it is answered by then; else the next follows the answer.
        timeout_s: Seconds that the client has to answer, or to send anything else: an answer may be stuck behind a
            large message. That gives it more time, but never more than twice the timeout in all.
        now: The time.
    """

    __slots__ = ("_interval_s", "_is_awaiting", "_pinged_at", "_timeout_s", "deadline")

    def __init__(self, interval_s: float, timeout_s: float, now: float) -> None:
        self.deadline = now + interval_s
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._is_awaiting = False
        self._pinged_at = now

    def is_overdue(self, now: float) -> bool:
        """Tell whether a ping was not answered in time."""
        return self._is_awaiting and now >= self.deadline

    def take_ping(self, now: float) -> str | None:
        """Take the ping that is due, to be sent now; ``None`` if none is."""
        if self._is_awaiting or now < self.deadline:
            return None
        self._is_awaiting = True
        self._pinged_at = now
        self.deadline = now + self._timeout_s
        return _PING

    def hear(self, now: float) -> None:
        """Note that the client is there, though its answer to a ping is still to come."""
        if self._is_awaiting:
            self.deadline = min(now, self._pinged_at + self._timeout_s) + self._timeout_s

    def receive(self, frame: str, now: float) -> Pulse:
        """Take a pong; one that nobody asked for proves nothing, and is ignored.

        Raises:
            MalformedPacket: It is a ping.
        """
        if frame != _PONG:
            raise MalformedPacket("pings from the server only", frame)
        if not self._is_awaiting:
            return Pulse()
        self._is_awaiting = False
        # Clients count from ping to ping: after a late answer, a whole interval more would be too long for them.
        self.deadline = max(now, self._pinged_at + self._interval_s)
        return Pulse(proves_arrival=True)


class ClientPings:
    """The heartbeat of revision 3: the client pings, and is gone once it has not for an interval and a timeout.

    Args:
        interval_s: Seconds from one ping to the next.
        timeout_s: Seconds that a ping may be late.
        now: The time.
    """

    __slots__ = ("_patience_s", "deadline")

    def __init__(self, interval_s: float, timeout_s: float, now: float) -> None:
        self.deadline = now + interval_s + timeout_s
        self._patience_s = interval_s + timeout_s

    def is_overdue(self, now: float) -> bool:
        """Tell whether the client's ping is too late."""
        return now >= self.deadline

    def take_ping(self, _now: float) -> str | None:
        """Take nothing: here the server does not ping."""
        return None

    def hear(self, now: float) -> None:
        """Take no note: a client that does not ping is not there."""

    def receive(self, frame: str, now: float) -> Pulse:
        """Take a ping; what it carries goes back with the pong.

        Raises:
            MalformedPacket: It is a pong.
        """
        if not frame.startswith(_PING):
            raise MalformedPacket("pongs from the server only", frame)
        self.deadline = now + self._patience_s
        return Pulse(reply=_PONG + frame[1:])
