"""The heartbeat of an Engine.IO session, on the server: the side that pings, and the limit on silence.

In revision 4 the server pings and the client answers. In revision 3 the client pings and the server answers.

Source: Engine.IO protocol, revisions 4 and 3 ("Heartbeat").
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from waypost.errors import MalformedPacket

__all__ = ["ClientPings", "Heartbeat", "Pulse", "ServerPings"]

_PING = "2"
_PONG = "3"
_UNNOTICED_S = 0.02
"""A ping that leaves so little late counts from its time: a client that counts along comes to the same end."""


class Pulse(NamedTuple):
    """The consequence of a client's heartbeat packet.

    Attributes:
        reply: The packet to answer with, or ``None``.
        proves_arrival: Whether all frames sent before the server's last ping have arrived.
        answers_probe: Whether the ping was sent out of turn, by `Heartbeat.probe`.
    """

    reply: str | None = None
    proves_arrival: bool = False
    answers_probe: bool = False


class Heartbeat(Protocol):
    """The heartbeat of one session.

    Attributes:
        deadline: The time of the next action: send a ping, or close a silent session.
    """

    deadline: float

    def is_overdue(self, now: float) -> bool:
        """Return whether the client has been silent for too long."""
        ...

    def take_ping(self, now: float) -> str | None:
        """Return the ping to send now, or ``None`` if no ping is due."""
        ...

    def probe(self) -> str | None:
        """Return a ping to send out of turn: its answer proves what has arrived, and no deadline waits for it.

        Returns:
            The ping; ``None`` while a ping is unanswered, or if the server does not ping in this revision.
        """
        ...

    def hear(self, now: float) -> None:
        """Note that the client sent a packet other than a heartbeat."""
        ...

    def receive(self, frame: str, now: float) -> Pulse:
        """Take a ping or pong packet of the client.

        Raises:
            MalformedPacket: In this revision the server sends this packet, not the client.
        """
        ...


class ServerPings:
    """The heartbeat of revision 4: the server pings, and the client answers in time.

    Args:
        interval_s: Seconds from a ping to the next. A late answer delays the next ping until it arrives.
        timeout_s: Seconds that the client has to answer a ping. Any other packet extends the time, because an answer
            may be stuck behind a large message; in total it has at most twice the timeout.
        now: The time, in seconds.
    """

    __slots__ = ("_interval_s", "_is_awaiting", "_is_probing", "_pinged_at", "_timeout_s", "deadline")

    def __init__(self, interval_s: float, timeout_s: float, now: float) -> None:
        self.deadline = now + interval_s
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._is_awaiting = False
        self._is_probing = False
        self._pinged_at = now

    def is_overdue(self, now: float) -> bool:
        """Return whether the client did not answer a ping in time."""
        return self._is_awaiting and now >= self.deadline

    def take_ping(self, now: float) -> str | None:
        """Return the ping to send now, or ``None`` if no ping is due."""
        if self._is_awaiting or now < self.deadline:
            return None
        self._is_awaiting = True
        self._pinged_at = self.deadline if now - self.deadline <= _UNNOTICED_S else now
        self.deadline = self._pinged_at + self._timeout_s
        return _PING

    def probe(self) -> str | None:
        """Return a ping to send out of turn, or ``None`` while a ping is unanswered."""
        if self._is_awaiting or self._is_probing:
            return None
        self._is_probing = True
        return _PING

    def hear(self, now: float) -> None:
        """Extend the time for the answer to a ping, because the client is alive."""
        if self._is_awaiting:
            self.deadline = min(now, self._pinged_at + self._timeout_s) + self._timeout_s

    def receive(self, frame: str, now: float) -> Pulse:
        """Take a pong. A pong without a ping proves nothing and is ignored.

        Raises:
            MalformedPacket: The packet is a ping.
        """
        if frame != _PONG:
            raise MalformedPacket("pings from the server only", frame)
        if self._is_probing:
            # Clients answer in order, and no probe is sent while a ping in turn is unanswered.
            self._is_probing = False
            self.hear(now)
            return Pulse(proves_arrival=True, answers_probe=True)
        if not self._is_awaiting:
            return Pulse()
        self._is_awaiting = False
        # Clients measure from ping to ping. A full interval after a late answer would exceed their limit.
        self.deadline = max(now, self._pinged_at + self._interval_s)
        return Pulse(proves_arrival=True)


class ClientPings:
    """The heartbeat of revision 3: the client pings. Without a ping for an interval and a timeout, it is dead.

    Args:
        interval_s: Seconds from one ping to the next.
        timeout_s: Seconds by which a ping may be late.
        now: The time, in seconds.
    """

    __slots__ = ("_patience_s", "deadline")

    def __init__(self, interval_s: float, timeout_s: float, now: float) -> None:
        self.deadline = now + interval_s + timeout_s
        self._patience_s = interval_s + timeout_s

    def is_overdue(self, now: float) -> bool:
        """Return whether the client's next ping is too late."""
        return now >= self.deadline

    def take_ping(self, _now: float) -> str | None:
        """Return ``None``: in this revision the server does not ping."""
        return None

    def probe(self) -> str | None:
        """Return ``None``, as `take_ping` does."""
        return None

    def hear(self, now: float) -> None:
        """Do nothing: in this revision only pings prove that the client is alive."""

    def receive(self, frame: str, now: float) -> Pulse:
        """Take a ping; the pong returns its content.

        Raises:
            MalformedPacket: The packet is a pong.
        """
        if not frame.startswith(_PING):
            raise MalformedPacket("pongs from the server only", frame)
        self.deadline = now + self._patience_s
        return Pulse(reply=_PONG + frame[1:])
