"""The interface to a cluster: the questions to other servers, and the answer of a server without others.

Events and changes of rooms pass through the journal, which servers will share. The questions here are those that each
server must answer for its own clients.
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
"""Seconds that other servers have to answer a question that needs no client; the same as in Node."""


@dataclass(frozen=True, slots=True)
class FetchSockets:
    """Asks for the matching sockets of each server. The answer is a list of `SocketDetails`.

    Attributes:
        target: The sockets.
    """

    target: Target


@dataclass(frozen=True, slots=True)
class CallSockets:
    """Asks each server to call its matching sockets. The answer is a `BroadcastAnswers`.

    Attributes:
        target: The sockets.
        event: The event; `EncodedEvent.to_record` carries it to other servers.
        timeout_s: Seconds that the clients have to answer.
    """

    target: Target
    event: EncodedEvent
    timeout_s: float


@dataclass(frozen=True, slots=True)
class DisconnectSockets:
    """Asks each server to disconnect its matching sockets. The answer is ``None``.

    Attributes:
        target: The sockets.
        close: Whether to close their whole connections.
    """

    target: Target
    close: bool


@dataclass(frozen=True, slots=True)
class ServerSideEvent:
    """An event for the application on the other servers. The answer is the result of its handler.

    Attributes:
        event: The event's name.
        args: The event's arguments.
    """

    event: str
    args: tuple[Any, ...]


Question = FetchSockets | CallSockets | DisconnectSockets | ServerSideEvent


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply of one server to a question.

    Attributes:
        server: The server's name.
        answered: Whether the server answered in time.
        value: The answer.
    """

    server: str
    answered: bool
    value: Any = None


class Others(Protocol):
    """The other servers of a cluster. Each of them answers with `answering.answer`."""

    def ask(self, namespace: str, question: Question, timeout_s: float) -> AsyncIterator[Reply]:
        """Ask every other server.

        Args:
            namespace: The namespace of the question.
            question: The question.
            timeout_s: Seconds that the servers have to answer.

        Returns:
            The replies as they arrive, one for each server; at the end those of servers without an answer.
        """
        ...


class Alone:
    """A server without others."""

    async def ask(self, namespace: str, question: Question, timeout_s: float) -> AsyncIterator[Reply]:
        """Return no replies."""
        replies: tuple[Reply, ...] = ()
        for reply in replies:
            yield reply
