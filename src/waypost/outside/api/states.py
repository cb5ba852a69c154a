"""The state and the sockets of a service, as its HTTP API shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["ApiJournal", "ApiSocket", "ApiSocketsPage", "ApiState"]


@dataclass(frozen=True, slots=True)
class ApiJournal:
    """The size of a namespace's journal.

    Attributes:
        events: The number of events.
        bytes: Their size, in bytes.
    """

    events: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ApiState:
    """A service in numbers.

    Attributes:
        phase: The phase of the server that has answered, such as ``"serving"``; see `waypost.Readiness`.
        is_ready: Whether that server can serve new clients as it should.
        troubles: The codes of what its store suffers from, such as ``"full"``; see `waypost.Trouble`.
        connections: The number of open connections, over all servers.
        sockets: The number of connected sockets of each namespace, over all servers.
        journals: The journal of each namespace.
        server: The name of the server that has answered.
    """

    phase: str
    is_ready: bool
    troubles: Sequence[str]
    connections: int
    sockets: Mapping[str, int]
    journals: Mapping[str, ApiJournal]
    server: str


@dataclass(frozen=True, slots=True)
class ApiSocket:
    """A connected socket.

    Attributes:
        id: The socket's id.
        rooms: Its rooms, the one of its id included.
        server: The name of the server that it is connected to.
    """

    id: str
    rooms: Sequence[str]
    server: str


@dataclass(frozen=True, slots=True)
class ApiSocketsPage:
    """A page of sockets.

    Attributes:
        sockets: The sockets, by their ids.
        missing_servers: The names of the servers that did not say in time which sockets they have.
    """

    sockets: Sequence[ApiSocket]
    missing_servers: Sequence[str]
