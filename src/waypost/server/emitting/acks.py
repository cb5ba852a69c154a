"""The acknowledgements that one client still owes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from waypost.protocol.codec import EncodedEvent
from waypost.protocol.engineio import Frame

__all__ = ["PendingAcks"]


class _Pending(NamedTuple):
    event: EncodedEvent
    taken: Callable[[list[Any] | None], None]
    survives: bool


class PendingAcks:
    """Events that wait for their acknowledgement, by ack id. Each gets at most one answer.

    Args:
        first_id: The first ack id. A client may acknowledge on a new connection an event of an old one. So every
            connection starts at another id, and a stale acknowledgement has an unknown id. All ids are below 2³¹,
            because the Java client reads them as 32 bits.
    """

    __slots__ = ("_next_id", "_pending")

    def __init__(self, first_id: int) -> None:
        self._pending: dict[int, _Pending] = {}
        self._next_id = first_id

    def __len__(self) -> int:
        return len(self._pending)

    def expect(self, event: EncodedEvent, *, survives: bool) -> tuple[int, asyncio.Future[list[Any] | None]]:
        """Wait for an event's acknowledgement.

        Args:
            event: The event that is sent.
            survives: Whether the event is sent again when the client recovers. If not, the loss of the connection
                ends the wait.

        Returns:
            The ack id, and a future of the acknowledgement's arguments, or of ``None`` if it will never arrive.
        """
        answer: asyncio.Future[list[Any] | None] = asyncio.get_running_loop().create_future()

        def take(arguments: list[Any] | None) -> None:
            if not answer.done():
                answer.set_result(arguments)

        return self.expect_for(take, event, survives=survives), answer

    def expect_for(
        self, taken: Callable[[list[Any] | None], None], event: EncodedEvent, *, survives: bool = False
    ) -> int:
        """Wait for an event's acknowledgement with a callback, which costs less than a future.

        Args:
            taken: Called once with the acknowledgement's arguments, or with ``None`` if it will never arrive; must
                not raise.
            event: As for `expect`.
            survives: As for `expect`.

        Returns:
            The ack id.
        """
        ack_id = self._next_id
        self._next_id += 1
        self._pending[ack_id] = _Pending(event, taken, survives)
        return ack_id

    def receive(self, ack_id: int, arguments: list[Any]) -> bool:
        """Pass an acknowledgement to the code that waits for it.

        Returns:
            Whether the ack id was known.
        """
        pending = self._pending.pop(ack_id, None)
        if pending is None:
            return False
        pending.taken(arguments)
        return True

    def forget(self, ack_id: int) -> None:
        """Stop waiting for an acknowledgement; a late one is ignored."""
        self._pending.pop(ack_id, None)

    def lose_connection(self) -> None:
        """End the wait for all events that do not survive the connection."""
        self._end([ack_id for ack_id, pending in self._pending.items() if not pending.survives])

    def close(self) -> None:
        """End the wait for all events."""
        self._end(list(self._pending))

    def to_resend(self) -> Iterator[tuple[Frame, ...]]:
        """Return the frames of all unanswered events, in the order in which they were sent."""
        for ack_id, pending in self._pending.items():
            yield pending.event.frames_with_ack(ack_id)

    def _end(self, ack_ids: list[int]) -> None:
        for ack_id in ack_ids:
            self._pending.pop(ack_id).taken(None)
