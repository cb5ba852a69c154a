"""Lets workers accept the clients of others that are not there, and would let them wait."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from waypost.workers.messages import Abandon, Adopt
from waypost.workers.worker import Worker

__all__ = ["Adoption"]


class Adoption:
    """Knows whose listening sockets which worker has taken in addition to its own.

    Args:
        listeners: The sockets of each slot.
    """

    def __init__(self, listeners: Sequence[Sequence[socket.socket]]) -> None:
        self._listeners = listeners
        self._adopters: dict[int, Worker] = {}

    def review(self, serving: Sequence[Worker]) -> None:
        """Let the sockets of each worker that does not serve have another one, and give back what is not needed.

        Args:
            serving: The worker of each slot.
        """
        for slot, worker in enumerate(serving):
            adopter = self._adopters.get(slot)
            if worker.serves:
                if adopter is not None:
                    del self._adopters[slot]
                    adopter.send(Abandon(slot))
            elif adopter is None or not adopter.serves:
                self._adopters.pop(slot, None)
                others = [one for one in serving if one.serves]
                if others:
                    chosen = self._adopters[slot] = min(others, key=self._adopted_by)
                    for listener in self._listeners[slot]:
                        chosen.send(Adopt(slot), listener.dup())

    def _adopted_by(self, worker: Worker) -> int:
        return sum(one is worker for one in self._adopters.values())
