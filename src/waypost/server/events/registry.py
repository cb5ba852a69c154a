"""What the application registers, for a namespace or for one socket: handlers by event name, and catch-alls."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, TypeVar

from waypost.checking.arguments import EVENT, check
from waypost.errors import ConfigurationError
from waypost.protocol.packet import RESERVED_EVENTS
from waypost.server.events.catch_all import CatchAlls
from waypost.typed.handlers import Handler, check_handler

__all__ = ["NAMESPACE_MOMENTS", "PARENT_MOMENTS", "SOCKET_MOMENTS", "Registry"]

F = TypeVar("F", bound=Callable[..., Any])

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

_MOST_UNKNOWN = 100
"""The most names of events without a handler that are logged as a warning."""

_NAME_CHARACTERS = 100
"""How much of such a name is kept: a client may send a megabyte."""


class Registry:
    """Handlers of a namespace, or of one socket.

    An event has one handler in a namespace and one on a socket; the socket's own is asked first, and then alone, so
    that an event is answered once. Registering a second one is an error: `remove` takes the first one away.

    Args:
        leading: How many arguments come before an event's own: a namespace's handlers get the socket.
        moments: The names that the server itself calls.

    Attributes:
        catch_alls: The handlers of all events, in and out.
    """

    __slots__ = ("_events", "_leading", "_moments", "_once", "_server_calls", "_unknown", "catch_alls")

    def __init__(self, leading: int, moments: frozenset[str]) -> None:
        self.catch_alls = CatchAlls(leading)
        self._leading = leading
        self._server_calls = moments
        self._events: dict[str, Handler] = {}
        self._moments: dict[str, Handler] = {}
        self._once: set[str] = set()
        self._unknown: set[str] = set()

    # -- for the application --------------------------------------------------------------------------------

    def adder(self, event: str, *, concurrent: bool = False, once: bool = False) -> Callable[[F], F]:
        """Return a decorator that registers a function for an event.

        Args:
            event: The event's name, or one of the moments.
            concurrent: Whether the function may run at the same time as other handlers of the same socket.
            once: Whether the function is taken away when it is called.

        Raises:
            ConfigurationError: No such event would ever come. The decorator raises it if the function can't be called
                that way, or the event has a handler.
        """
        self._check_name(event)
        if once and event in self._server_calls:
            raise ConfigurationError("event", event, "to be registered with on()")

        def add(function: F) -> F:
            self._add(event, function, concurrent=concurrent)
            if once:
                self._once.add(event)
            return function

        return add

    def remove(self, event: str) -> None:
        """Take an event's handler away; one that is running goes on. Without a handler, nothing happens."""
        check("event", event, EVENT)
        self._moments.pop(event, None)
        self._events.pop(event, None)
        self._once.discard(event)

    def add_methods(self, handlers: object, *, concurrent: bool) -> None:
        """Register the methods of an object; see `Listening.register`.

        Raises:
            ConfigurationError: It has no such method, or one of them can't be registered.
        """
        names = [name for name in dir(handlers) if name.startswith(_PREFIX) and callable(getattr(handlers, name))]
        if not names:
            raise ConfigurationError("handlers", handlers, "an object with methods named on_…")
        for name in names:
            method = getattr(handlers, name)
            if name == "on_any":
                self.catch_alls.add_incoming(method)
            elif name == "on_any_outgoing":
                self.catch_alls.add_outgoing(method)
            else:
                self.adder(name.removeprefix(_PREFIX), concurrent=concurrent)(method)

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
            self.remove(event)

    def note_unknown(self, event: str) -> bool:
        """Note that an event came which has no handler.

        Returns:
            True for the first event of a name. Clients choose names, so after `_MOST_UNKNOWN` of them it is False.
        """
        begun = event[:_NAME_CHARACTERS]
        if begun in self._unknown or len(self._unknown) >= _MOST_UNKNOWN:
            return False
        self._unknown.add(begun)
        return True

    def _add(self, event: str, function: Callable[..., Any], *, concurrent: bool) -> None:
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
