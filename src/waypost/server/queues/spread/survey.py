"""Asks the other nodes what the consumers do that they own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import count

from waypost.server.queues.load import Load
from waypost.server.queues.spread.letters import Loads, LoadsAsked
from waypost.server.queues.spread.post import Post

__all__ = ["Survey"]

_ANSWER_S = 2.0


@dataclass(slots=True, eq=False)
class _Question:
    missing: set[str]
    loads: list[Load] = field(default_factory=list)
    answered: asyncio.Event = field(default_factory=asyncio.Event)


class Survey:
    """The questions of one node for numbers.

    Args:
        post: Sends messages to nodes.
    """

    __slots__ = ("_numbers", "_post", "_questions")

    def __init__(self, post: Post) -> None:
        self._post = post
        self._numbers = count(1)
        self._questions: dict[int, _Question] = {}

    async def ask(self, queues: tuple[str, ...]) -> list[Load]:
        """Return the numbers of the consumers of some queues that other nodes own. May be cancelled.

        A node that does not answer within 2 s is left out.
        """
        missing = set(self._post.nodes.others)
        if not missing:
            return []
        number = next(self._numbers)
        question = self._questions[number] = _Question(missing)
        self._post.send_to_all(("", ""), LoadsAsked(number, queues))
        try:
            async with asyncio.timeout(_ANSWER_S):
                await question.answered.wait()
        except TimeoutError:
            return question.loads
        finally:
            del self._questions[number]
        return question.loads

    def take(self, node: str, answer: Loads) -> None:
        """Take a node's answer."""
        question = self._questions.get(answer.number)
        if question is not None and node in question.missing:
            question.loads.extend(answer.loads)
            self._count(question, node)

    def gone(self, node: str) -> None:
        """Wait no longer for a node."""
        for question in self._questions.values():
            self._count(question, node)

    def _count(self, question: _Question, node: str) -> None:
        question.missing.discard(node)
        if not question.missing:
            question.answered.set()
