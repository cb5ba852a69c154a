"""The contract for answers: the stored answers to messages that clients may send again.

A client repeats a message until it gets the answer, so it may repeat one that was handled: the answer was lost. The
store therefore keeps each answer until the client confirms it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = [
    "ANSWER_OVERHEAD_BYTES",
    "MAX_ANSWERS_PER_CLIENT",
    "UNCOUNTED",
    "Answer",
    "AnswerGivenUp",
    "AnswerLimits",
    "Answers",
]

ANSWER_OVERHEAD_BYTES = 256
"""The bytes that an answer counts for, in addition to its record; also an answer that was given up."""

UNCOUNTED = ""
"""The account of answers that only the limit on all answers counts."""

MAX_ANSWERS_PER_CLIENT = 1_000
"""The most answers that are kept for one client; those to its latest messages stay."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one message of a client.

    Attributes:
        client: The client's key; secret, so callers pass a digest.
        sequence: The message's number, from 1; later messages of a client have larger numbers.
        message: The message's id. If a client starts its numbers anew, the ids differ.
        record: The encoded answer.
        account: Whom the answer's bytes are counted for: an address, or what the application names.
    """

    client: bytes
    sequence: int
    message: str
    record: bytes
    account: str = UNCOUNTED


@dataclass(frozen=True, slots=True)
class AnswerLimits:
    """The limits on the bytes of stored answers.

    Attributes:
        total_bytes: The most bytes of all answers together.
        account_bytes: The most bytes of the answers of one account.
    """

    total_bytes: int = 256 << 20
    account_bytes: int = 16 << 20


class AnswerGivenUp(Exception):
    """The message was handled, but there were too many answers, and the answer to it was given up."""


class Answers(Protocol):
    """The stored answers to clients. Made by `Store.answers`.

    Guarantees: after `keep` returns, `find` finds the answer until the client has settled it, the answer is older
    than the store keeps answers, or the client has `MAX_ANSWERS_PER_CLIENT` answers to later messages. A durable
    store keeps this guarantee over a crash, also where writes to journals are reported before they are on disk.

    The exception is an answer that is given up: its account, or all answers together, exceed the `AnswerLimits`.
    `find` then raises `AnswerGivenUp`. An account's oldest answers are given up first; if all answers together exceed
    their limit, those of the account with the most bytes. If all answers of an account are given up and it still
    exceeds a limit, the oldest are forgotten.
    """

    async def find(self, client: bytes, sequence: int, message: str) -> bytes | None:
        """Return the answer to a client's message; ``None`` if the store has none.

        Raises:
            AnswerGivenUp: There was an answer, which is kept no more.
        """
        ...

    async def keep(self, answer: Answer, settled: int) -> None:
        """Store an answer; an answer to the same message is replaced.

        Args:
            answer: The answer.
            settled: The client has the answers to all its messages up to this number; they are removed.
        """
        ...
