"""What waits to be sent: each namespace's packets in order, and all of them over one connection in turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from waypost.protocol.engineio import Frame, polled_size

if TYPE_CHECKING:
    from waypost.client.session import Session

__all__ = ["Outgoing", "Outlet"]


@dataclass(slots=True, eq=False)
class Outgoing:
    """A packet that waits to be sent.

    Attributes:
        frames: Its frames.
        size: Roughly how many bytes they are.
        sid: The only session it may be sent in; ``None`` for any.
        is_bound: Whether it is meant for this connection, and for no later one.
        written: Whether it was handed to a connection.
    """

    frames: tuple[Frame, ...]
    size: int
    sid: str | None = None
    is_bound: bool = False
    written: bool = False


class Outlet:
    """What all namespaces of one client have to send, as the `engine.Source` of its connections.

    Args:
        on_filled: Called when there is something to send.
    """

    __slots__ = ("_control", "_on_filled", "_open", "_taken")

    def __init__(self, on_filled: Callable[[], None]) -> None:
        self._on_filled = on_filled
        self._control: deque[Outgoing] = deque()
        self._open: deque[Session] = deque()
        self._taken: list[tuple[Session | None, Outgoing]] = []

    def open(self, session: Session) -> None:
        """Let a namespace's packets through, from now on."""
        self._open.append(session)
        self.filled()

    def shut(self, session: Session) -> None:
        """Hold a namespace's packets back, from now on."""
        if session in self._open:
            self._open.remove(session)

    def reset(self) -> None:
        """Forget what was meant for a connection that is gone."""
        self._control.clear()
        self._taken.clear()

    def send_first(self, frames: tuple[Frame, ...]) -> None:
        """Send a packet before all others: one that asks to join a namespace."""
        self._control.append(Outgoing(frames, 0))
        self.filled()

    def filled(self) -> None:
        """Have what waits sent."""
        self._on_filled()

    def take(self, most_packets: int, most_bytes: float) -> list[Frame]:
        """Take out the frames of the next packets, as many as go in one batch."""
        frames: list[Frame] = []
        self._taken.clear()
        size = 0
        while (found := self._next()) is not None:
            session, outgoing = found
            size += sum(map(polled_size, outgoing.frames))
            if frames and (size > most_bytes or len(frames) + len(outgoing.frames) > most_packets):
                break
            self._take_out(session, outgoing)
            frames += outgoing.frames
            if len(frames) >= most_packets:
                break
        return frames

    def _next(self) -> tuple[Session | None, Outgoing] | None:
        if self._control:
            return None, self._control[0]
        for _ in range(len(self._open)):
            session = self._open[0]
            outgoing = session.next_outgoing()
            if outgoing is not None:
                return session, outgoing
            self._open.rotate(-1)
        return None

    def _take_out(self, session: Session | None, outgoing: Outgoing) -> None:
        outgoing.written = True
        self._taken.append((session, outgoing))
        if session is None:
            self._control.popleft()
        else:
            session.take_outgoing()
            if len(self._open) > 1:
                self._open.rotate(-1)

    def put_back(self) -> None:
        """Put what `take` took out back to the front."""
        while self._taken:
            session, outgoing = self._taken.pop()
            outgoing.written = False
            if session is not None:
                session.put_back(outgoing)
