"""Asks the other servers of a cluster, and collects their replies."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Collection
from typing import TypeAlias

import msgspec

from waypost.server.cluster.bus import Topic
from waypost.server.cluster.seam import Found, Question, Reply, ServerSideEvent, Value
from waypost.storage.following import EVERYBODY, Nodes

__all__ = ["UNANSWERED", "Ask", "Asking", "End", "More", "Part", "Request", "Response", "Stop"]

UNANSWERED = 0
"""The number of a question that expects no reply."""


class Ask(msgspec.Struct, frozen=True, tag="ask", array_like=True):
    """A question.

    Attributes:
        number: The asking server's number of it; `UNANSWERED` if it expects no reply.
        namespaces: The namespaces of the question.
        question: The question.
        timeout_s: Seconds that the server has to answer.
    """

    number: int
    namespaces: tuple[str, ...]
    question: Question
    timeout_s: float


class More(msgspec.Struct, frozen=True, tag="more", array_like=True):
    """The asking server has taken a page, and wants the next one.

    Attributes:
        number: The question's number.
    """

    number: int


class Stop(msgspec.Struct, frozen=True, tag="stop", array_like=True):
    """The asking server wants no more of a reply.

    Attributes:
        number: The question's number.
    """

    number: int


class Part(msgspec.Struct, frozen=True, tag="part", array_like=True):
    """A part of a reply.

    Attributes:
        number: The question's number.
        value: The part.
    """

    number: int
    value: Value


class End(msgspec.Struct, frozen=True, tag="end", array_like=True):
    """The end of a reply.

    Attributes:
        number: The question's number.
        is_complete: Whether the server could answer.
    """

    number: int
    is_complete: bool


Request: TypeAlias = Ask | More | Stop
Response: TypeAlias = Part | End


class _Asked:
    """A question that was sent.

    Attributes:
        waiting: The servers whose replies have not ended.
        replies: The parts that arrived and were not taken.
    """

    __slots__ = ("_wake", "replies", "waiting")

    def __init__(self, waiting: set[str]) -> None:
        self.waiting = waiting
        self.replies: deque[Reply] = deque()
        self._wake: asyncio.Event | None = None

    def put(self, reply: Reply) -> None:
        self.replies.append(reply)
        if self._wake is not None:
            self._wake.set()

    def end(self, server: str, *, is_complete: bool = False, is_gone: bool = False) -> None:
        if server in self.waiting:
            self.waiting.discard(server)
            self.put(Reply(server, is_complete=is_complete, is_gone=is_gone))

    def end_all(self) -> None:
        for server in sorted(self.waiting):
            self.end(server)

    async def wait(self) -> None:
        if not self.replies:
            self._wake = asyncio.Event()
            await self._wake.wait()


class Asking:
    """Asks the other servers; the `Others` of a server, which may be alone."""

    def __init__(self) -> None:
        self._nodes: Nodes | None = None
        self._requests: Topic[Request] | None = None
        self._asked: dict[int, _Asked] = {}
        self._last = UNANSWERED

    @property
    def exist(self) -> bool:
        """Whether there are other servers now."""
        return self._nodes is not None and bool(self._nodes.others)

    def begin(self, nodes: Nodes, requests: Topic[Request]) -> None:
        """Have others.

        Args:
            nodes: The servers.
            requests: The topic of questions.
        """
        self._nodes = nodes
        self._requests = requests

    def end(self) -> None:
        """Be alone again: no reply comes any more."""
        self._nodes = self._requests = None
        for asked in self._asked.values():
            asked.end_all()

    def tell(self, namespace: str, event: ServerSideEvent) -> None:
        """Send an event that expects no reply; see `Others.tell`."""
        if self._requests is not None:
            self._requests.send(EVERYBODY, Ask(UNANSWERED, (namespace,), event, 0.0))

    def ask(self, namespaces: Collection[str], question: Question, timeout_s: float) -> AsyncIterator[Reply]:
        """Ask every other server; see `Others.ask`."""
        asked = _Asked(set() if self._nodes is None else set(self._nodes.others))
        self._last += 1
        if self._requests is not None and asked.waiting:
            self._requests.send(EVERYBODY, Ask(self._last, tuple(namespaces), question, timeout_s))
            self._asked[self._last] = asked
            # Also if nobody takes the replies.
            asyncio.get_running_loop().call_later(timeout_s, self._give_up, self._last)
        return self._replies(self._last, asked)

    async def _replies(self, number: int, asked: _Asked) -> AsyncIterator[Reply]:
        try:
            while asked.waiting or asked.replies:
                await asked.wait()
                while asked.replies:
                    reply = asked.replies.popleft()
                    yield reply
                    if isinstance(reply.value, Found) and self._requests is not None:
                        self._requests.send(reply.server, More(number))
        finally:
            self._give_up(number)

    def _give_up(self, number: int) -> None:
        asked = self._asked.pop(number, None)
        if asked is not None:
            if asked.waiting and self._requests is not None:
                self._requests.send(EVERYBODY, Stop(number))
            asked.end_all()

    # -- what other servers send ----------------------------------------------------------------------------

    def receive(self, server: str, response: Response) -> None:
        """Take a part of a reply, or its end."""
        asked = self._asked.get(response.number)
        if asked is None or server not in asked.waiting:
            return
        if isinstance(response, Part):
            asked.put(Reply(server, response.value))
        else:
            asked.end(server, is_complete=response.is_complete)

    def gone(self, server: str) -> None:
        """Note that a server is gone: it answers no more."""
        for asked in self._asked.values():
            asked.end(server, is_gone=True)
