"""What this client has acknowledged, so that an event which the server sends again is not handled again."""

from __future__ import annotations

from collections import OrderedDict

from waypost.protocol.engineio import Frame

__all__ = ["Answers"]

_MOST = 1_000


class Answers:
    """The acknowledgements of one session on the server, the latest ones of them.

    When a session is recovered, the server sends again what was not acknowledged at the cut, with the same id:
    maybe it was handled, and only the acknowledgement got lost.
    """

    __slots__ = ("_frames", "_sid")

    def __init__(self) -> None:
        self._sid: str | None = None
        self._frames: OrderedDict[int, tuple[Frame, ...]] = OrderedDict()

    def begin(self, sid: str) -> None:
        """Forget all, unless it is the same session again."""
        if sid != self._sid:
            self._frames.clear()
        self._sid = sid

    def expect(self, ack_id: int) -> bool:
        """Take note of an event that asks for an acknowledgement.

        Returns:
            Whether it came for the first time.
        """
        if ack_id in self._frames:
            return False
        self._frames[ack_id] = ()
        if len(self._frames) > _MOST:
            self._frames.popitem(last=False)
        return True

    def keep(self, ack_id: int, frames: tuple[Frame, ...], sid: str | None) -> None:
        """Keep the acknowledgement of an event of a session, if that is the session still."""
        if sid == self._sid and ack_id in self._frames:
            self._frames[ack_id] = frames

    def get(self, ack_id: int) -> tuple[Frame, ...]:
        """Give an acknowledgement; nothing while the handler still runs."""
        return self._frames.get(ack_id, ())
