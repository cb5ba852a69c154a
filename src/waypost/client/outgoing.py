"""The packets that wait to be sent: each namespace's in order, and those of all namespaces in turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from waypost.client.packets import Outgoing
from waypost.protocol.engineio import Frame, polled_size

__all__ = ["PacketLine", "PacketSource"]


class PacketLine(Protocol):
    """The packets of one namespace, in order. `session.Session` is one."""

    def next_outgoing(self) -> Outgoing | None:
        """Return the next packet that may be sent; ``None`` if there is none."""
        ...

    def take_outgoing(self) -> None:
        """Remove that packet."""
        ...

    def put_back(self, outgoing: Outgoing) -> None:
        """Return a packet that was not sent to the front."""
        ...


class PacketSource:
    """The packets of all namespaces of one client, as the `engine.Source` of its connections.

    Args:
        on_filled: Called when there is a packet to send.
    """

    __slots__ = ("_control", "_on_filled", "_open", "_taken")

    def __init__(self, on_filled: Callable[[], None]) -> None:
        self._on_filled = on_filled
        self._control: deque[Outgoing] = deque()
        self._open: deque[PacketLine] = deque()
        self._taken: list[tuple[PacketLine | None, Outgoing]] = []

    def open(self, line: PacketLine) -> None:
        """Let a namespace's packets pass from now on."""
        self._open.append(line)
        self.filled()

    def shut(self, line: PacketLine) -> None:
        """Hold a namespace's packets back from now on."""
        if line in self._open:
            self._open.remove(line)

    def reset(self) -> None:
        """Drop the packets that were meant for a lost connection only."""
        self._control.clear()
        self._taken.clear()

    def send_first(self, frames: tuple[Frame, ...]) -> None:
        """Send a packet before all others: one that asks to join a namespace."""
        self._control.append(Outgoing(frames, 0))
        self.filled()

    def filled(self) -> None:
        """Start sending the packets that wait."""
        self._on_filled()

    def take(self, most_packets: int, most_bytes: float) -> list[Frame]:
        """Remove and return the frames of the next packets, as many as one batch allows; see `engine.Source.take`."""
        frames: list[Frame] = []
        self._taken.clear()
        size = 0
        while (found := self._next()) is not None:
            line, outgoing = found
            size += sum(map(polled_size, outgoing.frames))
            if frames and (size > most_bytes or len(frames) + len(outgoing.frames) > most_packets):
                break
            self._take_out(line, outgoing)
            frames += outgoing.frames
            if len(frames) >= most_packets:
                break
        return frames

    def _next(self) -> tuple[PacketLine | None, Outgoing] | None:
        if self._control:
            return None, self._control[0]
        for _ in range(len(self._open)):
            line = self._open[0]
            outgoing = line.next_outgoing()
            if outgoing is not None:
                return line, outgoing
            self._open.rotate(-1)
        return None

    def _take_out(self, line: PacketLine | None, outgoing: Outgoing) -> None:
        outgoing.written = True
        self._taken.append((line, outgoing))
        if line is None:
            self._control.popleft()
        else:
            line.take_outgoing()
            if len(self._open) > 1:
                self._open.rotate(-1)

    def put_back(self) -> None:
        """Return the packets of the last `take` to the front."""
        while self._taken:
            line, outgoing = self._taken.pop()
            outgoing.written = False
            if line is not None:
                line.put_back(outgoing)
