"""Events of this client that wait for their acknowledgement."""

from __future__ import annotations

import asyncio
from typing import Any

from waypost.client.packets import Outgoing
from waypost.errors import WaypostError

__all__ = ["Calls"]


class Calls:
    """Calls by ack id; ids are never used again, not even on another connection."""

    __slots__ = ("_next_id", "_pending")

    def __init__(self) -> None:
        self._pending: dict[int, tuple[Outgoing, asyncio.Future[list[Any]]]] = {}
        self._next_id = 0

    def __len__(self) -> int:
        return len(self._pending)

    def next_id(self) -> int:
        """Give the id of a new call."""
        self._next_id += 1
        return self._next_id - 1

    def expect(self, ack_id: int, outgoing: Outgoing) -> asyncio.Future[list[Any]]:
        """Wait for an acknowledgement; whoever does calls `forget` in the end."""
        answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._pending[ack_id] = (outgoing, answer)
        return answer

    def forget(self, ack_id: int) -> None:
        """Wait no more."""
        del self._pending[ack_id]

    def answer(self, ack_id: int, values: list[Any]) -> None:
        """Take an acknowledgement; one that nobody awaits is ignored."""
        _, answer = self._pending.get(ack_id, (None, None))
        if answer is not None and not answer.done():
            answer.set_result(values)

    def lose(self, error: WaypostError) -> None:
        """End the calls whose connection is gone; one that waits to be sent waits for the next."""
        for outgoing, answer in self._pending.values():
            if (outgoing.written or outgoing.is_bound) and not answer.done():
                answer.set_exception(error)
