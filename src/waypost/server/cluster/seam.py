"""The questions that a server asks the others of a cluster, and their replies.

A plain emit passes through the journal, which the servers share. The questions here are those that each server must
answer for its own clients.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from typing import Any, NamedTuple, Protocol, TypeAlias

import msgspec

from waypost.server.basics.handshake import Handshake
from waypost.server.basics.targets import Target

__all__ = [
    "ANSWER_TIMEOUT_S",
    "Acked",
    "Asked",
    "CallSockets",
    "FetchSockets",
    "Found",
    "Others",
    "Question",
    "Reply",
    "Result",
    "ServerSideEvent",
    "SocketDetails",
    "Value",
]

ANSWER_TIMEOUT_S = 5.0
"""Seconds that other servers have to answer a question that needs no client; the same as in Node."""


class FetchSockets(msgspec.Struct, frozen=True, tag="fetch", array_like=True):
    """Asks for the matching sockets of each server. The values are `Found`.

    Attributes:
        target: The sockets.
    """

    target: Target


class CallSockets(msgspec.Struct, frozen=True, tag="call", array_like=True):
    """Asks each server to call its matching sockets. The values are one `Asked`, then `Acked`.

    Attributes:
        target: The sockets.
        record: The event, by `EncodedEvent.to_record`.
        timeout_s: Seconds that the clients have to answer.
        volatile: Whether to ask only clients that can take the event at once.
        compress: Whether the transport may compress the packet.
    """

    target: Target
    record: bytes
    timeout_s: float
    volatile: bool
    compress: bool


class ServerSideEvent(msgspec.Struct, frozen=True, tag="event", array_like=True):
    """An event for the application on the other servers. The value is a `Result`.

    Attributes:
        event: The event's name.
        args: The event's arguments.
    """

    event: str
    args: tuple[Any, ...]


Question: TypeAlias = FetchSockets | CallSockets | ServerSideEvent


class SocketDetails(msgspec.Struct, frozen=True, array_like=True):
    """The facts about a socket that one server sends another.

    Attributes:
        id: The socket's id.
        handshake: The client's request for the connection.
        rooms: The socket's rooms.
        data: The application's data.
    """

    id: str
    handshake: Handshake
    rooms: frozenset[str]
    data: dict[str, Any]


class Found(msgspec.Struct, frozen=True, tag="found", array_like=True):
    """Some of the matching sockets.

    Attributes:
        sockets: The sockets.
    """

    sockets: tuple[SocketDetails, ...]


class Asked(msgspec.Struct, frozen=True, tag="asked", array_like=True):
    """The sockets that were called.

    Attributes:
        sids: The ids of the sockets that were sent the event.
        missing: The ids of those that could not take a volatile event.
    """

    sids: tuple[str, ...]
    missing: tuple[str, ...]


class Acked(msgspec.Struct, frozen=True, tag="acked", array_like=True):
    """The answer of one socket.

    Attributes:
        sid: The socket's id.
        arguments: The acknowledgement's arguments; ``None`` if the connection has ended before.
    """

    sid: str
    arguments: list[Any] | None


class Result(msgspec.Struct, frozen=True, tag="result", array_like=True):
    """The result of the handler of a server-side event.

    Attributes:
        value: The value.
    """

    value: Any


Value: TypeAlias = Found | Asked | Acked | Result


class Reply(NamedTuple):
    """A part of one server's reply to a question, or its end.

    Attributes:
        server: The server's name.
        value: The part; ``None`` at the end.
        is_complete: At the end: whether the server answered completely, in time.
        is_gone: At the end: whether the server is gone, and its clients' connections with it.
    """

    server: str
    value: Value | None = None
    is_complete: bool = False
    is_gone: bool = False


class Others(Protocol):
    """The other servers of a cluster, of which there may be none."""

    @property
    def exist(self) -> bool:
        """Whether there are other servers now."""
        ...

    def ask(self, namespaces: Collection[str], question: Question, timeout_s: float) -> AsyncIterator[Reply]:
        """Ask every other server; the question is sent before this returns.

        Args:
            namespaces: The namespaces of the question.
            question: The question.
            timeout_s: Seconds that the servers have to answer.

        Returns:
            The parts of the replies as they arrive, and the end of each server's reply. A server is expected to
            answer if it was there when it was asked; its reply ends at once when it is gone.

        Raises:
            EncodingFailed: A value of the question can't be sent.
        """
        ...

    def tell(self, namespace: str, event: ServerSideEvent) -> None:
        """Send an event to every other server, and expect no reply.

        Raises:
            EncodingFailed: An argument can't be sent.
        """
        ...
