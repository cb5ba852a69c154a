"""Sockets as `fetch_sockets` lists them, wherever in a cluster they are connected."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from waypost.checking.names import Names
from waypost.errors import AckTimeout, NotConnected
from waypost.server.basics.handshake import Handshake
from waypost.server.basics.targets import Target
from waypost.server.cluster.seam import ANSWER_TIMEOUT_S, FetchSockets

if TYPE_CHECKING:
    from waypost.server.emitting.broadcast import BroadcastCall
    from waypost.server.emitting.members import Member, Members

__all__ = ["FetchedSockets", "RemoteSocket", "SocketDetails", "details_of", "fetch_sockets"]


@dataclass(frozen=True, slots=True)
class SocketDetails:
    """What one server tells another of a socket.

    Attributes:
        id: Its id.
        handshake: What the client said of itself.
        rooms: The rooms it is in.
        data: The application's data.
    """

    id: str
    handshake: Handshake
    rooms: frozenset[str]
    data: dict[str, Any]


class Addressing(Protocol):
    """The `Operator` that addresses one socket, wherever it is."""

    def timeout(self, seconds: float) -> Addressing:
        """The same with another timeout for `call`."""
        ...

    async def emit(self, event: str, *args: Any) -> None:
        """Emit an event; see `Operator.emit`."""
        ...

    def call(self, event: str, *args: Any) -> BroadcastCall:
        """Emit an event that asks for acks; see `Operator.call`."""
        ...

    async def sockets_join(self, *rooms: Names) -> None:
        """Let it join rooms; see `Operator.sockets_join`."""
        ...

    async def sockets_leave(self, *rooms: Names) -> None:
        """Let it leave rooms; see `Operator.sockets_leave`."""
        ...

    async def disconnect_sockets(self, *, close: bool = False) -> None:
        """Disconnect it; see `Operator.disconnect_sockets`."""
        ...


class RemoteSocket:
    """One client in one namespace, as it was when it was fetched; what is asked of it reaches it where it is now.

    Attributes:
        id: Its id, also a room that only it is in.
        handshake: What the client said of itself.
        rooms: The rooms it was in, its own id among them.
        data: A copy of the application's data.
        server: The server of a cluster that it is connected to; ``""`` for this one.
    """

    __slots__ = ("_namespace", "_operator", "data", "handshake", "id", "rooms", "server")

    def __init__(self, details: SocketDetails, server: str, namespace: str, operator: Addressing) -> None:
        self.id = details.id
        self.handshake = details.handshake
        self.rooms = details.rooms
        self.data = details.data
        self.server = server
        self._namespace = namespace
        self._operator = operator

    def __repr__(self) -> str:
        return f"<RemoteSocket {self.id} in {self._namespace}>"

    async def emit(self, event: str, *args: Any) -> None:
        """Emit an event to it; see `Operator.emit`."""
        await self._operator.emit(event, *args)

    async def call(self, event: str, *args: Any, timeout_s: float | None = None) -> Any:
        """Emit an event to it and wait for its ack.

        Args:
            event: Its name.
            args: Its arguments.
            timeout_s: Seconds to wait; ``None`` for the server's ``ack_timeout_s``.

        Returns:
            The ack's argument; a tuple of several; ``None`` for none.

        Raises:
            AckTimeout: No ack came in time.
            NotConnected: It has left.
            EncodingFailed: An argument can't be encoded.
        """
        operator = self._operator if timeout_s is None else self._operator.timeout(timeout_s)
        call = operator.call(event, *args)
        answers = await call
        if self.id in answers.answers:
            return answers.answers[self.id]
        if answers.missing or answers.missing_servers:
            raise AckTimeout(event, call.timeout_s)
        raise NotConnected(self.id, self._namespace, f"call {event!r}")

    async def join(self, *rooms: Names) -> None:
        """Let it join rooms; see `Operator.sockets_join`."""
        await self._operator.sockets_join(*rooms)

    async def leave(self, *rooms: Names) -> None:
        """Let it leave rooms; see `Operator.sockets_leave`."""
        await self._operator.sockets_leave(*rooms)

    async def disconnect(self, *, close: bool = False) -> None:
        """Disconnect it; see `Operator.disconnect_sockets`."""
        await self._operator.disconnect_sockets(close=close)


@dataclass(frozen=True, slots=True)
class FetchedSockets:
    """The sockets that were found, to be iterated over.

    Attributes:
        sockets: The sockets.
        missing_servers: The servers of a cluster that did not answer; their sockets are not in it.
    """

    sockets: tuple[RemoteSocket, ...]
    missing_servers: tuple[str, ...] = ()

    @property
    def is_partial(self) -> bool:
        """Whether some server did not answer."""
        return bool(self.missing_servers)

    def __iter__(self) -> Iterator[RemoteSocket]:
        return iter(self.sockets)

    def __len__(self) -> int:
        return len(self.sockets)


def details_of(member: Member) -> SocketDetails:
    """Tell what another server may know of a socket."""
    return SocketDetails(member.sid, member.handshake, member.rooms, dict(member.data))


async def fetch_sockets(
    members: Members, target: Target, address: Callable[[str], Addressing], *, local: bool
) -> FetchedSockets:
    """List the connected sockets that a target means.

    Args:
        members: Those among whom the target is looked for.
        target: The members that are meant.
        address: Makes the operator that addresses one of them, by its id.
        local: Whether to ask no other servers.
    """
    sockets: list[RemoteSocket] = []
    missing: list[str] = []

    def add(details: SocketDetails, server: str) -> None:
        sockets.append(RemoteSocket(details, server, members.namespace, address(details.id)))

    def add_own(member: Member) -> None:
        if member.connected:
            add(details_of(member), "")

    await members.each(target, add_own)
    if not local:
        async for reply in members.ask_others(FetchSockets(target), ANSWER_TIMEOUT_S):
            if reply.answered:
                for details in reply.value:
                    add(details, reply.server)
            else:
                missing.append(reply.server)
    return FetchedSockets(tuple(sockets), tuple(missing))
