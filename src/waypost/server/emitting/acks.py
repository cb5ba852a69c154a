"""Acknowledgements that are still awaited from one client."""

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
    """Events that wait for their ack, by ack id; each is answered at most once.

    Args:
        first_id: Where ack ids begin. A client may acknowledge on a new connection what it got on an old one, so
            every connection begins elsewhere, and a stale ack is recognised by its unknown id. Below 2³¹ in all,
            since the Java client reads them into 32 bits.
    """

    __slots__ = ("_next_id", "_pending")

    def __init__(self, first_id: int) -> None:
        self._pending: dict[int, _Pending] = {}
        self._next_id = first_id

    def __len__(self) -> int:
        return len(self._pending)

    def expect(self, event: EncodedEvent, *, survives: bool) -> tuple[int, asyncio.Future[list[Any] | None]]:
        """Wait for an event's ack.

        Args:
            event: What was sent.
            survives: Whether it is sent again when the client recovers; else the loss of its connection answers.

        Returns:
            The ack id, and a future that gets the ack's arguments, or ``None`` if it will never come.
        """
        answer: asyncio.Future[list[Any] | None] = asyncio.get_running_loop().create_future()

        def take(arguments: list[Any] | None) -> None:
            if not answer.done():
                answer.set_result(arguments)

        return self.expect_for(take, event, survives=survives), answer

    def expect_for(
        self, taken: Callable[[list[Any] | None], None], event: EncodedEvent, *, survives: bool = False
    ) -> int:
        """Wait for an event's ack without a future, for whom the many futures would cost too much.

        Args:
            taken: Called once, at once when the ack comes, with its arguments, or with ``None`` if it will never
                come; must not raise.
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
        """Hand an ack on; returns whether anyone waited for it."""
        pending = self._pending.pop(ack_id, None)
        if pending is None:
            return False
        pending.taken(arguments)
        return True

    def forget(self, ack_id: int) -> None:
        """Stop waiting for an ack; one that still comes is ignored."""
        self._pending.pop(ack_id, None)

    def lose_connection(self) -> None:
        """Answer those that do not survive the connection."""
        self._end([ack_id for ack_id, pending in self._pending.items() if not pending.survives])

    def close(self) -> None:
        """Answer all: nothing will come any more."""
        self._end(list(self._pending))

    def to_resend(self) -> Iterator[tuple[Frame, ...]]:
        """Give the frames of all that is still unanswered, in the order in which it was sent."""
        for ack_id, pending in self._pending.items():
            yield pending.event.frames_with_ack(ack_id)

    def _end(self, ack_ids: list[int]) -> None:
        for ack_id in ack_ids:
            self._pending.pop(ack_id).taken(None)
