"""The methods with which an application registers handlers, catch-alls and middleware."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar, overload

from waypost.server.events.foreign_forms import check_middleware
from waypost.typed.handlers import check_handler, name_of

if TYPE_CHECKING:
    from waypost.server.events.registry import Registry
    from waypost.typed.handlers import Handler

__all__ = ["Listening"]

F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")

WithoutSocket = Literal["session_expired", "new_namespace"]
"""The names whose handlers do not get a socket first."""


class Listening(Protocol[S]):
    """Registers the application's functions: the methods that a server, a namespace and a parent share.

    ``S`` is the type of the socket that a handler gets first: `waypost.Socket`, which this module does not import.
    """

    __slots__ = ()

    _registry: Registry
    _middlewares: list[Handler]

    @overload
    def on(self, event: WithoutSocket, *, concurrent: bool = ...) -> Callable[[F], F]: ...

    @overload
    def on(self, event: WithoutSocket, handler: F, *, concurrent: bool = ...) -> F: ...

    @overload
    def on(
        self, event: str, *, concurrent: bool = ...
    ) -> Callable[[Callable[Concatenate[S, P], R]], Callable[Concatenate[S, P], R]]: ...

    @overload
    def on(
        self, event: str, handler: Callable[Concatenate[S, P], R], *, concurrent: bool = ...
    ) -> Callable[Concatenate[S, P], R]: ...

    def on(self, event: str, handler: Callable[..., Any] | None = None, *, concurrent: bool = False) -> Any:
        """Register a handler, as ``@io.on("name")`` or ``io.on("name", function)``. An event has one handler.

        The server itself calls handlers under these names:

        - ``"connect"``, with ``(socket, auth)``, when a client connects; it may raise `ConnectionRefused`.
        - ``"disconnecting"``, with ``(socket, reason)``, while ``socket.rooms`` still has the rooms.
        - ``"disconnect"``, with ``(socket, reason)``, after that.
        - ``"session_expired"``, with an `EndedSession`, when a client did not come back in time. Its session is
          removed.
        - ``"new_namespace"``, on a `ParentNamespace` only, with the `Namespace` that a client created, before any
          client enters it.

        Args:
            event: The event's name, or one of the names above.
            handler: Called with the socket and the event's arguments. ``async def``, or ``def`` to run in a thread.
                Its result is the ack: a tuple is several arguments, ``None`` none, any other value one. Arguments are
                converted for parameters that are annotated with a dataclass, `msgspec.Struct`, pydantic model,
                ``TypedDict`` or builtin type. An event with an argument that does not fit is answered with an error,
                and the handler is not called. Auth that does not fit refuses the client.
            concurrent: Whether the handler may run at the same time as other handlers of the same socket, instead of
                in the order of arrival. A socket has at most the server's ``concurrent_handlers`` of them.

        Returns:
            The handler; without one, a decorator.

        Raises:
            ConfigurationError: The handler can't be called that way, an annotation is none of those above, the event
                has a handler already, or no such event can occur.
        """
        add = self._registry.adder(event, concurrent=concurrent)
        return add if handler is None else add(handler)

    @overload
    def once(self, event: str) -> Callable[[Callable[Concatenate[S, P], R]], Callable[Concatenate[S, P], R]]: ...

    @overload
    def once(self, event: str, handler: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]: ...

    def once(self, event: str, handler: Callable[..., Any] | None = None) -> Any:
        """Register a handler for the next such event only, of any socket; see `on`.

        The handler is removed when it is called. An event whose arguments do not fit leaves it in place.

        Args:
            event: The event's name; none of the names under which the server itself calls handlers.
            handler: As for `on`.

        Returns:
            The handler; without one, a decorator.

        Raises:
            ConfigurationError: As for `on`.
        """
        add = self._registry.adder(event, once=True)
        return add if handler is None else add(handler)

    @overload
    def event(self, handler: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]: ...

    @overload
    def event(
        self, *, concurrent: bool = ...
    ) -> Callable[[Callable[Concatenate[S, P], R]], Callable[Concatenate[S, P], R]]: ...

    def event(self, handler: Callable[..., Any] | None = None, *, concurrent: bool = False) -> Any:
        """Register a handler for the event that has the function's name, as ``@io.event``; see `on`.

        Args:
            handler: As for `on`.
            concurrent: As for `on`.

        Returns:
            The handler; without one, a decorator.

        Raises:
            ConfigurationError: As for `on`.
        """

        def add(function: F) -> F:
            return self._registry.adder(name_of(function), concurrent=concurrent)(function)

        return add if handler is None else add(handler)

    def off(self, event: str) -> None:
        """Remove the handler of an event. A running call continues. If the event has no handler, nothing happens.

        Args:
            event: The event's name.
        """
        self._registry.remove(event)

    def register(self, handlers: T, *, concurrent: bool = False) -> T:
        """Register the methods of an object: ``on_chat`` for the event ``"chat"``, ``on_any`` for all events.

        Args:
            handlers: An object of any class. Its methods named ``on_…`` are registered as with `on`; its methods
                ``on_any`` and ``on_any_outgoing`` as with the methods of that name here.
            concurrent: As for `on`, for all its events.

        Returns:
            The same object.

        Raises:
            ConfigurationError: The object has no such method, or one of them can't be registered.
        """
        self._registry.add_methods(handlers, concurrent=concurrent)
        return handlers

    def on_any(self, handler: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
        """Register a handler for all events from clients; usable as a decorator. There may be several.

        Args:
            handler: Called with the socket, the event's name and its arguments, before the event's own handler, and
                also if there is none. ``async def``, or ``def`` to run in a thread. Its result is ignored. If its
                parameters are annotated, it is called only for events that fit. Several are called in the order in
                which they were registered, the socket's own after these. Acks are not events.

        Returns:
            The handler.

        Raises:
            ConfigurationError: The handler can't be called that way.
        """
        self._registry.catch_alls.add_incoming(handler)
        return handler

    def off_any(self, handler: Callable[..., Any] | None = None) -> None:
        """Remove a handler for all events.

        Args:
            handler: The handler; ``None`` for all of them.
        """
        self._registry.catch_alls.remove_incoming(handler)

    def on_any_outgoing(self, listener: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
        """Register a listener for all events to clients; usable as a decorator. There may be several.

        Args:
            listener: A short ``def``. It is called on the event loop with the socket, the event's name and its
                arguments, once for each client that gets the event, and also when the event is replayed to a client
                that was away. Its exceptions are logged. Acks are not events.

        Returns:
            The listener.

        Raises:
            ConfigurationError: The listener can't be called that way, or is ``async``.
        """
        self._registry.catch_alls.add_outgoing(listener)
        return listener

    def off_any_outgoing(self, listener: Callable[..., Any] | None = None) -> None:
        """Remove a listener for all events to clients.

        Args:
            listener: The listener; ``None`` for all of them.
        """
        self._registry.catch_alls.remove_outgoing(listener)

    def use(self, middleware: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
        """Add a middleware, called with each socket before it is connected; usable as a decorator.

        Several are called in the order in which they were added, a parent's before its child's.

        Args:
            middleware: ``async def middleware(socket)``, or ``def`` to run in a thread. It raises `ConnectionRefused`
                to refuse the client.

        Returns:
            The function.

        Raises:
            ConfigurationError: The function can't be called that way.
        """
        checked = check_handler("middleware", middleware, 1)
        check_middleware(checked)
        self._middlewares.append(checked)
        return middleware
