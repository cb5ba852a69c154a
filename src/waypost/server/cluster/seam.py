"""The seam for a cluster: what a server asks the others, and the answer of one that is alone.

Events and changes of rooms go by the journal, which servers will share. What is left are questions that every server
has to answer for the clients connected to it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

from waypost.protocol.codec import EncodedEvent
from waypost.server.basics.targets import Target

__all__ = [
    "ANSWER_TIMEOUT_S",
    "Alone",
    "CallSockets",
    "DisconnectSockets",
    "FetchSockets",
    "Others",
    "Question",
    "Reply",
    "ServerSideEvent",
]

ANSWER_TIMEOUT_S = 5.0
"""How long other servers have to answer what needs no client's answer; as Node's do."""


@dataclass(frozen=True, slots=True)
class FetchSockets:
    """Whom do you have? Answered with a list of `SocketDetails`.

    Attributes:
        target: Who is meant.
    """

    target: Target


@dataclass(frozen=True, slots=True)
class CallSockets:
    """Call those you have. Answered with a `BroadcastAnswers`.

    Attributes:
        target: Who is meant.
        event: The event; an `EncodedEvent.to_record` carries it to where it is asked.
        timeout_s: Seconds they have to answer.
    """

    target: Target
    event: EncodedEvent
    timeout_s: float


@dataclass(frozen=True, slots=True)
class DisconnectSockets:
    """Disconnect those you have. Answered with ``None``.

    Attributes:
        target: Who is meant.
        close: Whether to close their whole connections.
    """

    target: Target
    close: bool


@dataclass(frozen=True, slots=True)
class ServerSideEvent:
    """An event for the application on the other servers. Answered with what its handler returned.

    Attributes:
        event: Its name.
        args: Its arguments.
    """

    event: str
    args: tuple[Any, ...]


Question = FetchSockets | CallSockets | DisconnectSockets | ServerSideEvent


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of a question to one server.

    Attributes:
        server: The server's name.
        answered: Whether it answered in time.
        value: The answer.
    """

    server: str
    answered: bool
    value: Any = None


class Others(Protocol):
    """The other servers of a cluster. On each of them, `answering.answer` finds the answer."""

    def ask(self, namespace: str, question: Question, timeout_s: float) -> AsyncIterator[Reply]:
        """Ask every other server.

        Args:
            namespace: The namespace that the question is about.
            question: The question.
            timeout_s: Seconds the servers have to answer.

        Returns:
            The replies as they come, one of each server; of those that did not answer at the end.
        """
        ...


class Alone:
    """No other servers."""

    async def ask(self, namespace: str, question: Question, timeout_s: float) -> AsyncIterator[Reply]:
        """Nobody replies."""
        replies: tuple[Reply, ...] = ()
        for reply in replies:
            yield reply
