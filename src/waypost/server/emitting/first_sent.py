"""How far a client was sent everything, and the first event of a connection, which tells of progress."""

from __future__ import annotations

import asyncio
from typing import Protocol

__all__ = ["FirstSent", "SendProgress", "Watched"]


class SendProgress(Protocol):
    """The position up to which a stored session was sent everything.

    Attributes:
        last: The position of the last event that was sent.
        progress: The position that the replay has reached; ``None`` once the member is live.
    """

    last: int
    progress: int | None


class Watched(Protocol):
    """The outgoing packets of one client on one connection.

    Attributes:
        session: How far it was sent everything.
    """

    session: SendProgress | None

    @property
    def is_holding(self) -> bool:
        """Whether live events are held back."""
        ...

    @property
    def buffered_bytes(self) -> int:
        """The number of bytes that wait in the connection."""
        ...

    @property
    def stalled_since(self) -> float:
        """The time since which frames wait in the connection and none was taken; infinity if none waits."""
        ...


class FirstSent:
    """The first event of the journal that goes out on a connection.

    It stands in for the progress of the session until then, so that later events cost nothing.

    Args:
        out: The outgoing packets.
        progress: The progress of the session.

    Attributes:
        position: The event's position; ``None`` before.
    """

    __slots__ = ("_held", "_out", "_progress", "_sent_at", "_waited", "position")

    def __init__(self, out: Watched, progress: SendProgress) -> None:
        self.position: int | None = None
        self._out = out
        self._progress = progress
        self._held: int | None = None
        self._sent_at = 0.0
        self._waited = False

    @property
    def last(self) -> int:
        """The position of the last event that was sent."""
        return self._progress.last

    @last.setter
    def last(self, position: int) -> None:
        self._progress.last = position
        if not self._out.is_holding:
            self._note(position)
        elif self._held is None:
            self._held = position

    @property
    def progress(self) -> int | None:
        """The position that the replay has reached; ``None`` once the member is live."""
        return self._progress.progress

    @progress.setter
    def progress(self, position: int | None) -> None:
        # A replayed event went out; or the events that were held back did, at the end of the replay.
        self._progress.progress = position
        if position is None:
            position = self._held
        if position is not None:
            self._note(position)

    def _note(self, position: int) -> None:
        self.position = position
        self._sent_at = asyncio.get_running_loop().time()
        self._waited = self._out.buffered_bytes > 0
        self._out.session = self._progress

    def seconds_out(self) -> float | None:
        """Return for how many seconds the event has been in the hands of the network; ``None`` if it is not."""
        if self.position is None or (self._waited and self._out.stalled_since <= self._sent_at):
            return None
        return asyncio.get_running_loop().time() - self._sent_at
