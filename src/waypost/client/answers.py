"""The client's stored acknowledgements. An event that the server sends again gets its stored answer.

There are two kinds of repetitions. If the connection breaks before the answer to a `Server.call`, the server sends
the call again in the recovered session, with the same ack id. A queue delivers a message again, on any connection,
until the consumer settles it; its `DeliveryMark` identifies it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Protocol

from waypost.protocol.extension import DeliveryMark

__all__ = ["Answers", "HandledMessages", "MemoryHandledMessages"]

_MOST = 1_000


class Answers:
    """The latest acknowledgements of one session on the server."""

    __slots__ = ("_sid", "_values")

    def __init__(self) -> None:
        self._sid: str | None = None
        self._values: OrderedDict[int, Sequence[Any]] = OrderedDict()

    def begin(self, sid: str) -> None:
        """Start a session. All acknowledgements are forgotten, unless it is the same session as before.

        Args:
            sid: The session's id.
        """
        if sid != self._sid:
            self._values.clear()
        self._sid = sid

    def keep(self, ack_id: int, values: Sequence[Any], sid: str | None) -> None:
        """Store an acknowledgement, unless another session has started since.

        Args:
            ack_id: The id of the event.
            values: The acknowledgement's arguments.
            sid: The session in which the event arrived.
        """
        if sid == self._sid:
            self._values[ack_id] = values
            if len(self._values) > _MOST:
                self._values.popitem(last=False)

    def get(self, ack_id: int, sid: str | None) -> Sequence[Any] | None:
        """Return the stored acknowledgement of an event; ``None`` if there is none."""
        return self._values.get(ack_id) if sid == self._sid else None


class HandledMessages(Protocol):
    """The queued messages that this client handled, with their acknowledgements. One task at a time uses it.

    An implementation on disk returns from `remember` when the record is on disk. Only then does the client
    acknowledge.
    """

    async def find(self, mark: DeliveryMark) -> Sequence[Any] | None:
        """Return the acknowledgement of a handled message; ``None`` if the message was not handled.

        The client will never ask again for messages of this queue, consumer and epoch up to ``mark.cursor``, nor for
        other epochs of this queue and consumer.
        """
        ...

    async def remember(self, mark: DeliveryMark, values: Sequence[Any]) -> None:
        """Store that a message was handled, and its acknowledgement."""
        ...


class MemoryHandledMessages:
    """`HandledMessages` in memory, for the client's lifetime. It keeps only messages that are not settled yet."""

    __slots__ = ("_epochs",)

    def __init__(self) -> None:
        self._epochs: dict[tuple[str, str], tuple[str, dict[int, Sequence[Any]]]] = {}

    async def find(self, mark: DeliveryMark) -> Sequence[Any] | None:
        """Return the acknowledgement of a handled message; ``None`` if the message was not handled."""
        epoch, answers = self._epochs.get((mark.queue, mark.consumer), ("", {}))
        if epoch != mark.epoch:
            return None
        for position in [position for position in answers if position <= mark.cursor]:
            del answers[position]
        return answers.get(mark.position)

    async def remember(self, mark: DeliveryMark, values: Sequence[Any]) -> None:
        """Store that a message was handled, and its acknowledgement."""
        key = (mark.queue, mark.consumer)
        epoch, answers = self._epochs.get(key, ("", {}))
        if epoch != mark.epoch:
            answers = {}
            self._epochs[key] = (mark.epoch, answers)
        answers[mark.position] = values
