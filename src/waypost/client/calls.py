"""The client's events that wait for their acknowledgement."""

from __future__ import annotations

import asyncio
from typing import Any

from waypost.client.packets import Outgoing
from waypost.errors import WaypostError

__all__ = ["Calls"]


class Calls:
    """Calls by ack id. An id is never used twice, not even on another connection."""

    __slots__ = ("_next_id", "_pending")

    def __init__(self) -> None:
        self._pending: dict[int, tuple[Outgoing, asyncio.Future[list[Any]]]] = {}
        self._next_id = 0

    def __len__(self) -> int:
        return len(self._pending)

    def next_id(self) -> int:
        """Return the id for a new call."""
        self._next_id += 1
        return self._next_id - 1

    def expect(self, ack_id: int, outgoing: Outgoing) -> asyncio.Future[list[Any]]:
        """Return a future for an acknowledgement; the caller must call `forget` in the end.

        Args:
            ack_id: The id from `next_id`.
            outgoing: The packet of the call.

        Returns:
            A future of the acknowledgement's arguments.
        """
        answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._pending[ack_id] = (outgoing, answer)
        return answer

    def forget(self, ack_id: int) -> None:
        """Stop waiting for an acknowledgement."""
        del self._pending[ack_id]

    def answer(self, ack_id: int, values: list[Any]) -> None:
        """Take an acknowledgement. An unexpected one is ignored."""
        _, answer = self._pending.get(ack_id, (None, None))
        if answer is not None and not answer.done():
            answer.set_result(values)

    def lose(self, error: WaypostError) -> None:
        """Fail the calls of a lost connection; a call that was not sent yet waits for the next connection.

        Args:
            error: The error for the callers.
        """
        for outgoing, answer in self._pending.values():
            if (outgoing.written or outgoing.is_bound) and not answer.done():
                answer.set_exception(error)
