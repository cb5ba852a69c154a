"""Events between the servers of a cluster; clients never see them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, overload

from waypost.checking.arguments import EVENT, check
from waypost.errors import ConfigurationError, EncodingFailed
from waypost.own_loop import OwnLoop
from waypost.protocol.packet import RESERVED_EVENTS
from waypost.server.cluster.seam import ANSWER_TIMEOUT_S, Question, Reply, Result, ServerSideEvent
from waypost.typed.handlers import Handler, check_handler

__all__ = ["AmongServers", "Host", "ServerAnswers", "ServerSide"]

F = TypeVar("F", bound=Callable[..., Any])

_RESERVED = RESERVED_EVENTS | {"connection", "new_namespace"}


@dataclass(frozen=True, slots=True)
class ServerAnswers:
    """The answers of the other servers of a cluster.

    Attributes:
        answers: The result of each server's handler, by the server's name.
        missing: The servers that did not answer in time, have no handler, or whose handler failed.
    """

    answers: Mapping[str, Any]
    missing: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether every server answered."""
        return not self.missing


class Host(Protocol):
    """The namespace of server-side events."""

    @property
    def own_loop(self) -> OwnLoop:
        """The event loop that the server runs on."""
        ...

    def ask_others(self, question: Question, timeout_s: float) -> AsyncIterator[Reply]:
        """Ask the other servers of a cluster about this namespace; see `Others.ask`."""
        ...

    def tell_others(self, event: ServerSideEvent) -> None:
        """Send the other servers of a cluster an event for this namespace; see `Others.tell`."""
        ...

    async def run_server_side(self, handler: Handler, name: str, arguments: tuple[Any, ...]) -> tuple[bool, Any]:
        """Run a handler; an exception is reported and not raised.

        Returns:
            Whether the handler returned, and its result.
        """
        ...


class ServerSide:
    """The server-side events of one namespace.

    Args:
        host: The namespace.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._handlers: dict[str, Handler] = {}

    def add(self, event: str, function: Callable[..., Any]) -> None:
        """Register the handler of an event; see `AmongServers.on_server_side`."""
        check("event", event, EVENT)
        what = f"handler of server-side {event}"
        if event in _RESERVED:
            raise ConfigurationError(what, function, "a name that is not reserved")
        if event in self._handlers:
            raise ConfigurationError(what, function, "no second one")
        self._handlers[event] = check_handler(what, function, 0)

    async def ask(self, event: str, args: tuple[Any, ...]) -> ServerAnswers:
        """Emit an event to all other servers and collect their answers; see `AmongServers.server_side_call`."""
        question = _event(event, args)
        self._host.own_loop.check("server_side_call")
        answers: dict[str, Any] = {}
        missing: list[str] = []
        async for reply in self._host.ask_others(question, ANSWER_TIMEOUT_S):
            if isinstance(reply.value, Result):
                answers[reply.server] = reply.value.value
            elif not reply.is_complete:
                missing.append(reply.server)
        return ServerAnswers(answers, tuple(missing))

    def tell(self, event: str, args: tuple[Any, ...]) -> None:
        """Emit an event to all other servers; see `AmongServers.server_side_emit`."""
        told = _event(event, args)
        self._host.own_loop.check("server_side_emit")
        self._host.tell_others(told)

    async def receive(self, event: ServerSideEvent) -> tuple[bool, Any]:
        """Run the handler for an event of another server.

        Returns:
            Whether there is an answer, and the answer.
        """
        handler = self._handlers.get(event.event)
        if handler is None or not handler.takes(len(event.args)):
            return False, None
        return await self._host.run_server_side(handler, event.event, event.args)


def _event(event: str, args: tuple[Any, ...]) -> ServerSideEvent:
    check("event", event, EVENT)
    if event in _RESERVED:
        raise EncodingFailed(f"server-side event {event!r}", "the name is reserved")
    return ServerSideEvent(event, args)


class AmongServers(Protocol):
    """Events between the servers of a cluster: the methods that a server and a namespace share."""

    __slots__ = ()

    _server_side: ServerSide

    @overload
    def on_server_side(self, event: str) -> Callable[[F], F]: ...

    @overload
    def on_server_side(self, event: str, handler: F) -> F: ...

    def on_server_side(self, event: str, handler: F | None = None) -> F | Callable[[F], F]:
        """Register a handler for an event of another server of the cluster; usable as a decorator.

        The other server emits it with `server_side_emit` or `server_side_call`.

        Args:
            event: The event's name; none of Socket.IO's reserved names.
            handler: Called with the event's arguments. ``async def``, or ``def`` to run in a thread. Its result is
                the answer.

        Returns:
            The handler; without one, a decorator.

        Raises:
            ConfigurationError: The handler can't be called that way, the event has a handler already, or the name is
                reserved.
        """

        def add(function: F) -> F:
            self._server_side.add(event, function)
            return function

        return add if handler is None else add(handler)

    async def server_side_emit(self, event: str, *args: Any) -> None:
        """Emit an event to all other servers of the cluster. Without a cluster it reaches no server.

        It does not wait for their handlers; see `server_side_call`.

        Args:
            event: The event's name; none of Socket.IO's reserved names.
            args: The event's arguments: the same kinds of values as for `emit`.

        Raises:
            EncodingFailed: The name is reserved, or an argument can't be sent.

        Delivery: at most once, in the order of the calls.
        """
        self._server_side.tell(event, args)

    async def server_side_call(self, event: str, *args: Any) -> ServerAnswers:
        """Emit an event to all other servers of the cluster and wait for their answers, for 5 s at most.

        Args:
            event: The event's name; none of Socket.IO's reserved names.
            args: The event's arguments: the same kinds of values as for `emit`.

        Returns:
            The answers, and the servers that did not answer. Without a cluster both are empty.

        Raises:
            EncodingFailed: The name is reserved, or an argument can't be sent.

        Delivery: at most once. If this is cancelled, the event may be delivered all the same.
        """
        return await self._server_side.ask(event, args)
