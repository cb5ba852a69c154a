"""Events between the servers of a cluster, which no client sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, overload

from waypost.errors import ConfigurationError, EncodingFailed
from waypost.protocol.packet import RESERVED_EVENTS
from waypost.server.cluster.seam import ANSWER_TIMEOUT_S, ServerSideEvent
from waypost.typed.handlers import Handler, check_handler

if TYPE_CHECKING:
    from waypost.server.namespaces.namespace import Namespace

__all__ = ["ServerAnswers", "ServerSide"]

F = TypeVar("F", bound=Callable[..., Any])

_RESERVED = RESERVED_EVENTS | {"connection", "new_namespace"}


@dataclass(frozen=True, slots=True)
class ServerAnswers:
    """What the other servers of a cluster answered.

    Attributes:
        answers: What each server's handler returned, by the server's name.
        missing: The servers that did not answer in time, have no handler, or whose handler failed.
    """

    answers: Mapping[str, Any]
    missing: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether every server answered."""
        return not self.missing


class ServerSide:
    """Server-side events of one namespace.

    Args:
        namespace: The namespace.
    """

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._handlers: dict[str, Handler] = {}

    @overload
    def on(self, event: str) -> Callable[[F], F]: ...

    @overload
    def on(self, event: str, handler: F) -> F: ...

    def on(self, event: str, handler: F | None = None) -> F | Callable[[F], F]:
        """Register a handler for an event that another server of the cluster emits with `emit` or `call`.

        Args:
            event: Its name; none of Socket.IO's reserved ones.
            handler: Called with the event's arguments. ``async def``, or ``def`` to run in a thread. What it returns
                is the answer.

        Raises:
            ConfigurationError: It can't be called that way, or the event has a handler or is reserved.
        """

        def register(function: F) -> F:
            what = f"handler of server-side {event}"
            if event in _RESERVED:
                raise ConfigurationError(what, function, "a name that is not reserved")
            if event in self._handlers:
                raise ConfigurationError(what, function, "no second one")
            self._handlers[event] = check_handler(what, function, 0)
            return function

        return register if handler is None else register(handler)

    async def emit(self, event: str, *args: Any) -> None:
        """Emit an event to all other servers of the cluster, not to this one; without a cluster, to nobody.

        Args:
            event: Its name; none of Socket.IO's reserved ones.
            args: Its arguments, in the same kinds of values as of other events.

        Raises:
            EncodingFailed: The name is reserved.

        Delivery: at most once.
        """
        await self.call(event, *args)

    async def call(self, event: str, *args: Any) -> ServerAnswers:
        """Emit an event to all other servers of the cluster and wait for their answers, for 5 s at most.

        Args:
            event: Its name; none of Socket.IO's reserved ones.
            args: Its arguments.

        Returns:
            Who answered what, and who did not; without a cluster, nobody.

        Raises:
            EncodingFailed: The name is reserved.

        Delivery: at most once.
        """
        if event in _RESERVED:
            raise EncodingFailed(f"server-side event {event!r}", "the name is reserved")
        answers: dict[str, Any] = {}
        missing: list[str] = []
        async for reply in self._namespace.feed.ask_others(ServerSideEvent(event, args), ANSWER_TIMEOUT_S):
            if reply.answered:
                answers[reply.server] = reply.value
            else:
                missing.append(reply.server)
        return ServerAnswers(answers, tuple(missing))

    async def receive(self, event: ServerSideEvent) -> tuple[bool, Any]:
        """Run the handler of an event that another server has emitted.

        Returns:
            Whether there is an answer, and which.
        """
        handler = self._handlers.get(event.event)
        if handler is None or not handler.takes(len(event.args)):
            return False, None
        return await self._namespace.run_server_side(handler, event.event, event.args)
