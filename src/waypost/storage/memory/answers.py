"""Answers in memory; see `waypost.storage.answer_base`."""

from __future__ import annotations

from collections.abc import Callable

from waypost.storage.answer_base import MAX_ANSWERS_PER_CLIENT, Answer
from waypost.storage.memory.queue import Opening

__all__ = ["MemoryAnswers"]


class MemoryAnswers:
    """All answers of one opening of a `MemoryStore`.

    Args:
        opening: The opening.
        ttl_s: For how long an answer is kept, in seconds.
        wall_time: The clock, in seconds since the epoch.
    """

    __slots__ = ("_clients", "_opening", "_ttl_s", "_wall_time")

    def __init__(self, opening: Opening, ttl_s: float, wall_time: Callable[[], float]) -> None:
        self._opening = opening
        self._ttl_s = ttl_s
        self._wall_time = wall_time
        # By client, then by the message's number and id: the time, and the answer's record.
        self._clients: dict[bytes, dict[tuple[int, str], tuple[float, bytes]]] = {}

    async def find(self, client: bytes, sequence: int, message: str) -> bytes | None:
        """Return the answer to a client's message."""
        self._opening.check()
        found = self._clients.get(client, {}).get((sequence, message))
        return None if found is None else found[1]

    async def keep(self, answer: Answer, settled: int) -> None:
        """Store an answer, and remove those that the client has confirmed."""
        self._opening.check()
        answers = self._clients.setdefault(answer.client, {})
        answers[answer.sequence, answer.message] = (self._wall_time(), answer.record)
        latest = sorted(key for key in answers if key[0] > settled)[-MAX_ANSWERS_PER_CLIENT:]
        self._replace(answer.client, {key: answers[key] for key in latest})

    def trim(self) -> None:
        """Remove answers that are too old."""
        oldest = self._wall_time() - self._ttl_s
        for client, answers in list(self._clients.items()):
            self._replace(client, {key: kept for key, kept in answers.items() if kept[0] >= oldest})

    def _replace(self, client: bytes, answers: dict[tuple[int, str], tuple[float, bytes]]) -> None:
        if answers:
            self._clients[client] = answers
        else:
            self._clients.pop(client, None)
