"""Sockets as `fetch_sockets` returns them, on any server of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from waypost.checking.names import Names
from waypost.errors import AckTimeout, NotConnected
from waypost.own_loop import OwnLoop
from waypost.server.basics.targets import Target
from waypost.server.calling.from_thread import blocking
from waypost.server.cluster.seam import ANSWER_TIMEOUT_S, FetchSockets, Found, SocketDetails

if TYPE_CHECKING:
    from waypost.server.emitting.broadcast import BroadcastCall
    from waypost.server.emitting.members import Member, Members

__all__ = ["FetchedSockets", "RemoteSocket", "RemoteSocketFromThread", "details_of", "fetch_sockets"]


class Addressing(Protocol):
    """The `Operator` that addresses one socket, on any server."""

    def timeout(self, seconds: float) -> Addressing:
        """Return an operator with another timeout for `call`."""
        ...

    async def emit(self, event: str, *args: Any) -> None:
        """Emit an event to the socket; see `Operator.emit`."""
        ...

    def call(self, event: str, *args: Any) -> BroadcastCall:
        """Emit an event that asks for an acknowledgement; see `Operator.call`."""
        ...

    async def sockets_join(self, *rooms: Names) -> None:
        """Let the socket join rooms; see `Operator.sockets_join`."""
        ...

    async def sockets_leave(self, *rooms: Names) -> None:
        """Let the socket leave rooms; see `Operator.sockets_leave`."""
        ...

    async def disconnect_sockets(self, *, close: bool = False) -> None:
        """Disconnect the socket; see `Operator.disconnect_sockets`."""
        ...


class RemoteSocket:
    """One client in one namespace, as `fetch_sockets` found it.

    The attributes have the state at that time. The methods act on the client in its current state.

    Attributes:
        id: The socket's id, which is also a room of its own.
        handshake: The client's request for the connection.
        rooms: The socket's rooms when it was fetched, its id included.
        data: A copy of the application's data.
        server: The name of its server in a cluster; ``""`` for this server.
    """

    __slots__ = ("_namespace", "_operator", "_own_loop", "data", "handshake", "id", "rooms", "server")

    def __init__(
        self, details: SocketDetails, server: str, namespace: str, operator: Addressing, own_loop: OwnLoop
    ) -> None:
        self.id = details.id
        self.handshake = details.handshake
        self.rooms = details.rooms
        self.data = details.data
        self.server = server
        self._namespace = namespace
        self._operator = operator
        self._own_loop = own_loop

    def __repr__(self) -> str:
        return f"<RemoteSocket {self.id} in {self._namespace}>"

    @property
    def from_thread(self) -> RemoteSocketFromThread:
        """The same methods for threads, which wait for the result; see `Operator.from_thread`."""
        return RemoteSocketFromThread(self, self._own_loop)

    async def emit(self, event: str, *args: Any) -> None:
        """Emit an event to this client; see `Operator.emit`."""
        await self._operator.emit(event, *args)

    async def call(self, event: str, *args: Any, timeout_s: float | None = None) -> Any:
        """Emit an event to this client and wait for its acknowledgement. May be cancelled.

        Args:
            event: The event's name.
            args: The event's arguments.
            timeout_s: Seconds to wait, above 0; ``None`` for the server's ``ack_timeout_s``.

        Returns:
            The acknowledgement's argument; a tuple of several arguments; ``None`` without arguments.

        Raises:
            AckTimeout: No acknowledgement arrived in time.
            NotConnected: The client has left.
            EncodingFailed: An argument can't be encoded, or the name is reserved.

        Delivery: at most once.
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
        """Let this client join rooms; see `Operator.sockets_join`."""
        await self._operator.sockets_join(*rooms)

    async def leave(self, *rooms: Names) -> None:
        """Let this client leave rooms; see `Operator.sockets_leave`."""
        await self._operator.sockets_leave(*rooms)

    async def disconnect(self, *, close: bool = False) -> None:
        """Disconnect this client; see `Operator.disconnect_sockets`."""
        await self._operator.disconnect_sockets(close=close)


class RemoteSocketFromThread:
    """A `RemoteSocket` for threads; each method waits for its result. Made by ``from_thread``."""

    __slots__ = ("_inner", "_own_loop")

    def __init__(self, inner: RemoteSocket, own_loop: OwnLoop) -> None:
        self._inner = inner
        self._own_loop = own_loop

    emit = blocking(RemoteSocket.emit)
    call = blocking(RemoteSocket.call)
    join = blocking(RemoteSocket.join)
    leave = blocking(RemoteSocket.leave)
    disconnect = blocking(RemoteSocket.disconnect)


@dataclass(frozen=True, slots=True)
class FetchedSockets:
    """The sockets that `fetch_sockets` found; iterable.

    Attributes:
        sockets: The sockets.
        missing_servers: The servers of a cluster that did not answer; their sockets are missing here.
    """

    sockets: tuple[RemoteSocket, ...]
    missing_servers: tuple[str, ...] = ()

    @property
    def is_partial(self) -> bool:
        """Whether a server did not answer."""
        return bool(self.missing_servers)

    def __iter__(self) -> Iterator[RemoteSocket]:
        return iter(self.sockets)

    def __len__(self) -> int:
        return len(self.sockets)


def details_of(member: Member) -> SocketDetails:
    """Return the facts about a socket for another server."""
    return SocketDetails(member.sid, member.handshake, member.rooms, dict(member.data))


async def fetch_sockets(
    members: Members, target: Target, address: Callable[[str], Addressing], *, local: bool
) -> FetchedSockets:
    """Return the sockets of a target that are connected, or whose connect handlers run. May be cancelled.

    Args:
        members: The set in which the target is resolved.
        target: The sockets.
        address: Returns the operator for a socket's id.
        local: Whether to search this server only.
    """
    sockets: list[RemoteSocket] = []
    missing: list[str] = []

    def add(details: SocketDetails, server: str) -> None:
        sockets.append(RemoteSocket(details, server, members.namespace, address(details.id), members.own_loop))

    def add_own(member: Member) -> None:
        if member.is_told:
            add(details_of(member), "")

    is_asked = not local and members.has_others
    replies = members.ask_others(FetchSockets(target), ANSWER_TIMEOUT_S) if is_asked else None
    await members.each(target, add_own)
    if replies is not None:
        async for reply in replies:
            if isinstance(reply.value, Found):
                for details in reply.value.sockets:
                    add(details, reply.server)
            elif not reply.is_complete:
                missing.append(reply.server)
    return FetchedSockets(tuple(sockets), tuple(missing))
