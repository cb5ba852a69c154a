"""What this client has acknowledged, so that an event which the server sends again is not handled again.

There are two kinds. A `Server.call` that was unanswered when the connection broke is sent again in the recovered
session, with the same ack id. A queue's message is delivered again on any connection until it is settled, and is
known by its `DeliveryMark`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Protocol

from waypost.protocol.extension import DeliveryMark

__all__ = ["Answers", "HandledMessages", "MemoryHandledMessages"]

_MOST = 1_000


class Answers:
    """The acknowledgements of one session on the server, the latest ones of them."""

    __slots__ = ("_sid", "_values")

    def __init__(self) -> None:
        self._sid: str | None = None
        self._values: OrderedDict[int, Sequence[Any]] = OrderedDict()

    def begin(self, sid: str) -> None:
        """Forget all, unless it is the same session again."""
        if sid != self._sid:
            self._values.clear()
        self._sid = sid

    def keep(self, ack_id: int, values: Sequence[Any], sid: str | None) -> None:
        """Keep an acknowledgement that was made in a session, if that is the session still."""
        if sid == self._sid:
            self._values[ack_id] = values
            if len(self._values) > _MOST:
                self._values.popitem(last=False)

    def get(self, ack_id: int, sid: str | None) -> Sequence[Any] | None:
        """Give an acknowledgement; ``None`` if there was none."""
        return self._values.get(ack_id) if sid == self._sid else None


class HandledMessages(Protocol):
    """Which messages of queues were handled, and how they were answered. A client asks one task at a time.

    Whoever keeps it on disk returns from `remember` when it is there: only then is the message acknowledged.
    """

    async def find(self, mark: DeliveryMark) -> Sequence[Any] | None:
        """Return the answer to a message that was handled; ``None`` for one that was not.

        All that this queue, consumer and epoch have up to ``mark.cursor`` will never be asked for again, nor will
        other epochs of this queue and consumer.
        """
        ...

    async def remember(self, mark: DeliveryMark, values: Sequence[Any]) -> None:
        """Remember that a message was handled, and its answer."""
        ...


class MemoryHandledMessages:
    """`HandledMessages` for as long as the client lives; it holds what is not settled yet, and no more."""

    __slots__ = ("_epochs",)

    def __init__(self) -> None:
        self._epochs: dict[tuple[str, str], tuple[str, dict[int, Sequence[Any]]]] = {}

    async def find(self, mark: DeliveryMark) -> Sequence[Any] | None:
        """Return the answer to a message that was handled."""
        epoch, answers = self._epochs.get((mark.queue, mark.consumer), ("", {}))
        if epoch != mark.epoch:
            return None
        for position in [position for position in answers if position <= mark.cursor]:
            del answers[position]
        return answers.get(mark.position)

    async def remember(self, mark: DeliveryMark, values: Sequence[Any]) -> None:
        """Remember that a message was handled, and its answer."""
        key = (mark.queue, mark.consumer)
        epoch, answers = self._epochs.get(key, ("", {}))
        if epoch != mark.epoch:
            answers = {}
            self._epochs[key] = (mark.epoch, answers)
        answers[mark.position] = values
