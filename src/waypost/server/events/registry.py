"""The registry of one namespace or one socket: handlers by event name, and catch-alls."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, TypeVar

from waypost.checking.arguments import EVENT, check
from waypost.errors import ConfigurationError
from waypost.protocol.packet import RESERVED_EVENTS
from waypost.server.events.catch_all import CatchAlls
from waypost.server.events.foreign_forms import check_form
from waypost.typed.handlers import Handler, check_handler

__all__ = ["NAMESPACE_MOMENTS", "PARENT_MOMENTS", "SOCKET_MOMENTS", "Registry"]

F = TypeVar("F", bound=Callable[..., Any])

NAMESPACE_MOMENTS = frozenset({"connect", "disconnecting", "disconnect", "session_expired"})
"""The server's own events for a namespace's handlers; no packet of a client can have these names."""

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
"""Names that can never have a handler, and what to write instead."""

_MISSPELT = 0.92
"""The likeness from which a name counts as a misspelling: "conect" and "disconect" do, "connected" does not."""

_PREFIX = "on_"

_MOST_UNKNOWN = 100
"""The most names of events without a handler that are logged as a warning."""

_NAME_CHARACTERS = 100
"""How much of such a name is kept: a client may send a megabyte."""


class Registry:
    """The handlers of a namespace, or of one socket.

    An event has one handler in a namespace and one on a socket. The socket's own is called instead of the
    namespace's, so an event gets one answer. Registering a second handler is an error; `remove` removes the first.

    Args:
        leading: The number of arguments before an event's own: 1 if handlers get the socket, else 0.
        moments: The names of the server's own events.

    Attributes:
        catch_alls: The handlers for all events, incoming and outgoing.
        once: The names of the events whose handler has to be removed when it is called.
    """

    __slots__ = ("_events", "_leading", "_moments", "_server_calls", "_unknown", "catch_alls", "once")

    def __init__(self, leading: int, moments: frozenset[str]) -> None:
        self.catch_alls = CatchAlls(leading)
        self._leading = leading
        self._server_calls = moments
        self._events: dict[str, Handler] = {}
        self._moments: dict[str, Handler] = {}
        self.once: set[str] = set()
        self._unknown: set[str] = set()

    # -- for the application --------------------------------------------------------------------------------

    def adder(self, event: str, *, concurrent: bool = False, once: bool = False) -> Callable[[F], F]:
        """Return a decorator that registers a function for an event.

        Args:
            event: The event's name, or the name of one of the server's own events.
            concurrent: Whether the function may run at the same time as other handlers of the same socket.
            once: Whether the function is removed when it is called.

        Raises:
            ConfigurationError: No such event can occur. The decorator raises it if the function can't be called that
                way, or the event has a handler.
        """
        self._check_name(event)
        if once and event in self._server_calls:
            raise ConfigurationError("event", event, "to be registered with on()")

        def add(function: F) -> F:
            self._add(event, function, concurrent=concurrent)
            if once:
                self.once.add(event)
            return function

        return add

    def remove(self, event: str) -> None:
        """Remove an event's handler; a running call continues. Without a handler, nothing happens."""
        check("event", event, EVENT)
        self._moments.pop(event, None)
        self._events.pop(event, None)
        self.once.discard(event)

    def add_methods(self, handlers: object, *, concurrent: bool) -> None:
        """Register the methods of an object; see `Listening.register`.

        Raises:
            ConfigurationError: The object has no such method, or a method can't be registered.
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
        """Return the handler for one of the server's own events."""
        return self._moments.get(moment)

    def find(self, event: str) -> Handler | None:
        """Return the handler for a client's event."""
        return self._events.get(event)

    def note_unknown(self, event: str) -> bool:
        """Note an event without a handler.

        Returns:
            True for the first event of each name, up to `_MOST_UNKNOWN` names; clients choose the names.
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
        is_moment = event in self._server_calls
        check_form(event, handler, is_moment=is_moment)
        (self._moments if is_moment else self._events)[event] = handler

    def _check_name(self, event: str) -> None:
        """Check that an event of this name can occur.

        Raises:
            ConfigurationError: No such event can occur.
        """
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
