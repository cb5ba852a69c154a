"""The contract for answers: what clients were answered to messages that they may send again.

A client that sends a message until it is answered may send it again although it was handled: the answer was lost
on its way. So the answer is kept until the client says that it has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = ["MAX_ANSWERS_PER_CLIENT", "Answer", "Answers"]

MAX_ANSWERS_PER_CLIENT = 1_000
"""How many answers to one client are kept; those to its latest messages are."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client was answered to one message.

    Attributes:
        client: Which client; secret, so callers hand in a digest.
        sequence: The message's number, from 1; a client's later messages have higher ones.
        message: The message's id. A client whose numbers begin anew has other ids.
        record: The answer.
    """

    client: bytes
    sequence: int
    message: str
    record: bytes


class Answers(Protocol):
    """What clients were answered. Made by `Store.answers`.

    Guarantees: an answer whose `keep` has returned is found until the client has settled it, it is older than the
    store keeps answers, or the client has `MAX_ANSWERS_PER_CLIENT` to later messages. In a durable store that
    outlives a crash, also where writes to journals are reported before they are on disk.
    """

    async def find(self, client: bytes, sequence: int, message: str) -> bytes | None:
        """Return what a client was answered to a message; ``None`` if that is not known (any more)."""
        ...

    async def keep(self, answer: Answer, settled: int) -> None:
        """Keep an answer; one that is there for the same message is replaced.

        Args:
            answer: The answer.
            settled: The client has all answers to its messages up to this number: they are forgotten.
        """
        ...
