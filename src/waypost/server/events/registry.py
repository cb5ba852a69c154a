"""What the application registers, for a namespace or for one socket: handlers by event name, and catch-alls."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, TypeVar, overload

from waypost.errors import ConfigurationError
from waypost.protocol.packet import RESERVED_EVENTS
from waypost.server.events.catch_all import CatchAlls
from waypost.typed.handlers import Handler, check_handler

__all__ = ["NAMESPACE_MOMENTS", "PARENT_MOMENTS", "SOCKET_MOMENTS", "Registry"]

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

NAMESPACE_MOMENTS = frozenset({"connect", "disconnecting", "disconnect", "session_expired"})
"""What a namespace's handlers are told by the server itself, under names that no client's packet reaches."""

PARENT_MOMENTS = NAMESPACE_MOMENTS | {"new_namespace"}
"""The same for the handlers of a parent namespace."""

SOCKET_MOMENTS = frozenset({"disconnecting", "disconnect"})
"""The same for the handlers of one socket."""

_ELSEWHERE = {
    "connection": 'the name "connect"',
    "*": "on_any() for a handler of all events",
    "new_namespace": "to be registered on a parent namespace",
    "connect_error": "the name of an event that comes from a client",
    "newListener": "the name of an event that comes from a client",
    "removeListener": "the name of an event that comes from a client",
}
"""Names under which no handler would ever be called, and what was meant."""

_MISSPELT = 0.92
"""From this likeness on, a name is taken for a slip: "conect" and "disconect" are, "connected" is not."""

_PREFIX = "on_"


class Registry:
    """Handlers of a namespace, or of one socket.

    An event has one handler in a namespace and one on a socket; the socket's own is asked first, and then alone, so
    that an event is answered once. Registering a second one is an error: `off` takes the first one away.

    Args:
        leading: How many arguments come before an event's own: a namespace's handlers get the socket.
        moments: The names that the server itself calls.

    Attributes:
        catch_alls: The handlers of all events, in and out.
    """

    __slots__ = ("_events", "_leading", "_moments", "_once", "_server_calls", "catch_alls")

    def __init__(self, leading: int, moments: frozenset[str]) -> None:
        self.catch_alls = CatchAlls(leading)
        self._leading = leading
        self._server_calls = moments
        self._events: dict[str, Handler] = {}
        self._moments: dict[str, Handler] = {}
        self._once: set[str] = set()

    # -- for the application --------------------------------------------------------------------------------

    @overload
    def on(self, event: str, *, concurrent: bool = ...) -> Callable[[F], F]: ...

    @overload
    def on(self, event: str, handler: F, *, concurrent: bool = ...) -> F: ...

    def on(self, event: str, handler: F | None = None, *, concurrent: bool = False) -> F | Callable[[F], F]:
        """Register a handler, as ``@io.on("name")`` or ``io.on("name", function)``.

        Args:
            event: An event's name. In a namespace also ``"connect"``, called with ``(socket, auth)`` when a client
                has come, which may raise `ConnectionRefused`; ``"disconnecting"``, called with ``(socket, reason)``
                while ``socket.rooms`` are still those it was in, and ``"disconnect"``, called the same way after it;
                and ``"session_expired"``, called with an `EndedSession` when a client that left did not come back
                in time, so that nothing is kept for it any more. On a parent also ``"new_namespace"``, called with
                the `Namespace` that a client made, before anybody is let in. On a socket also ``"disconnect"``,
                called with ``(reason,)`` before the namespace's.
            handler: Called with the socket and the event's arguments; on a socket, with the arguments alone.
                ``async def``, or ``def`` to run in a thread. What it returns is the ack: a tuple is several
                arguments, ``None`` none. To parameters annotated with a dataclass, `msgspec.Struct`, pydantic model,
                ``TypedDict`` or builtin type, arguments are converted; an event with one that does not fit is
                answered with an error, and auth that does not fit refuses the client.
            concurrent: Let it run at the same time as other handlers of the same socket, instead of in the order in
                which the events came; at most the server's ``concurrent_handlers`` of a socket.

        Returns:
            The handler, or a decorator.

        Raises:
            ConfigurationError: It can't be called that way, an annotation is none of those, the event has a handler,
                or would never come.
        """
        self._check_name(event)

        def register(function: F) -> F:
            self._add(event, function, concurrent=concurrent)
            return function

        return register if handler is None else register(handler)

    @overload
    def once(self, event: str) -> Callable[[F], F]: ...

    @overload
    def once(self, event: str, handler: F) -> F: ...

    def once(self, event: str, handler: F | None = None) -> F | Callable[[F], F]:
        """Register a handler for the next such event only, of whichever socket of the namespace; see `on`.

        It is taken away when it is called; an event whose arguments do not fit leaves it in place.
        """
        self._check_name(event)
        if event in self._server_calls:
            raise ConfigurationError("event", event, "to be registered with on()")

        def register(function: F) -> F:
            self._add(event, function, concurrent=False)
            self._once.add(event)
            return function

        return register if handler is None else register(handler)

    @overload
    def event(self, handler: F) -> F: ...

    @overload
    def event(self, *, concurrent: bool = ...) -> Callable[[F], F]: ...

    def event(self, handler: F | None = None, *, concurrent: bool = False) -> F | Callable[[F], F]:
        """Register a handler for the event that is named like the function: ``@io.event``; see `on`."""

        def register(function: F) -> F:
            self._add(function.__name__, function, concurrent=concurrent)
            return function

        return register if handler is None else register(handler)

    def off(self, event: str) -> None:
        """Take an event's handler away; one that is running goes on. Without one, nothing happens."""
        self._moments.pop(event, None)
        self._events.pop(event, None)
        self._once.discard(event)

    def register(self, handlers: T, *, concurrent: bool = False) -> T:
        """Register the methods of an object: ``on_chat`` for the event ``"chat"``, ``on_any`` for all of them.

        Args:
            handlers: An object of any class. Its methods named ``on_…`` are called as those of `on`, and
                ``on_any`` and ``on_any_outgoing`` as the catch-alls of that name.
            concurrent: As for `on`, for all its events.

        Returns:
            The same object.

        Raises:
            ConfigurationError: It has no such method, or one of them can't be registered.
        """
        names = [name for name in dir(handlers) if name.startswith(_PREFIX) and callable(getattr(handlers, name))]
        if not names:
            raise ConfigurationError("handlers", handlers, "an object with methods named on_…")
        for name in names:
            method = getattr(handlers, name)
            if name == "on_any":
                self.on_any(method)
            elif name == "on_any_outgoing":
                self.on_any_outgoing(method)
            else:
                self._add(name.removeprefix(_PREFIX), method, concurrent=concurrent)
        return handlers

    def on_any(self, handler: F) -> F:
        """Register a handler for all events that come from clients; usable as a decorator.

        Args:
            handler: Called with the socket, the event's name and its arguments (on a socket, without the socket),
                before the event's own handler and whether there is one or not. What it returns is ignored.
                With annotated parameters it is only called for events that fit them.
                ``async def``, or ``def`` to run in a thread. Several are called in the order of registration, a
                namespace's before a socket's. Acks are not seen.

        Raises:
            ConfigurationError: It can't be called that way.
        """
        self.catch_alls.add_incoming(handler)
        return handler

    def off_any(self, handler: Callable[..., Any] | None = None) -> None:
        """Take a handler of all events away, or all of them."""
        self.catch_alls.remove_incoming(handler)

    def on_any_outgoing(self, listener: F) -> F:
        """Register a listener for all events that go out to clients; usable as a decorator.

        Args:
            listener: A short ``def`` that is called on the event loop with the socket, the event's name and its
                arguments (on a socket, without the socket) when an event is handed to a client, once for each
                client; also when it is replayed to one that was away. What it raises is logged. Acks are not seen.

        Raises:
            ConfigurationError: It can't be called that way.
        """
        self.catch_alls.add_outgoing(listener)
        return listener

    def off_any_outgoing(self, listener: Callable[..., Any] | None = None) -> None:
        """Take a listener of all outgoing events away, or all of them."""
        self.catch_alls.remove_outgoing(listener)

    # -- for the rest of the server -------------------------------------------------------------------------

    def get(self, moment: str) -> Handler | None:
        """Return the handler of something that the server itself calls."""
        return self._moments.get(moment)

    def find(self, event: str) -> Handler | None:
        """Return the handler of an event of a client."""
        return self._events.get(event)

    def spend(self, event: str) -> None:
        """Note that an event's handler is called; one that was registered for once is thereby gone."""
        if event in self._once:
            self.off(event)

    def _add(self, event: str, function: Callable[..., Any], *, concurrent: bool) -> None:
        self._check_name(event)
        what = f"handler of {event}"
        if event in self._events or event in self._moments:
            raise ConfigurationError(what, function, "no second one; off() takes away the one that is there")
        handler = check_handler(event, function, self._leading, concurrent=concurrent)
        (self._moments if event in self._server_calls else self._events)[event] = handler

    def _check_name(self, event: str) -> None:
        """Raise `ConfigurationError` for a name under which no handler would ever be called."""
        if not isinstance(event, str):
            raise ConfigurationError("event", event, 'a name, as in @io.on("name")')
        if event in self._server_calls:
            return
        if event in _ELSEWHERE or event in RESERVED_EVENTS:
            expected = _ELSEWHERE.get(event, "to be registered on the namespace")
            raise ConfigurationError("event", event, expected)
        meant = get_close_matches(event, self._server_calls, 1, _MISSPELT)
        if meant:
            raise ConfigurationError("event", event, f"the name {meant[0]!r}, or one less like it")
