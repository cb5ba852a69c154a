"""The answers of a node's takers that the owner of a consumer has perhaps not stored, or not even got."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from waypost.protocol.rejections import Rejection
from waypost.server.queues.delivery import Delivery
from waypost.server.queues.spread.letters import LateAck

__all__ = ["LastAnswers"]

_UNSTORED_S = 15.0
"""An owner that has lived for so long after an ack has stored it."""
_MOST = 4096


class LastAnswers:
    """The last answers to the deliveries of one consumer.

    Args:
        now: Returns the time on the store's clock.
    """

    __slots__ = ("_acks", "_now", "_unsent")

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._unsent: list[tuple[Delivery, Rejection | None]] = []
        self._acks: deque[tuple[float, LateAck]] = deque(maxlen=_MOST)

    def sent(self, ack: LateAck) -> None:
        """Note an ack that was sent to the owner, or that waits for one."""
        self._acks.append((self._now(), ack))

    @property
    def unstored(self) -> tuple[LateAck, ...]:
        """The acks that the last owner has perhaps not stored."""
        since = self._now() - _UNSTORED_S
        return tuple(ack for at, ack in self._acks if at >= since)

    def keep(self, delivery: Delivery, rejection: Rejection | None) -> None:
        """Keep an answer for the next owner."""
        self._unsent.append((delivery, rejection))

    def take(self) -> list[tuple[Delivery, Rejection | None]]:
        """Return the answers that were kept, and forget them."""
        answers, self._unsent = self._unsent, []
        return answers
