"""The application's functions, by event."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from waypost.checking.arguments import EVENT, FUNCTION, check
from waypost.errors import ConfigurationError
from waypost.typed.handlers import Handler, check_handler

__all__ = ["LIFECYCLE", "Handlers"]

LIFECYCLE = frozenset(("connect", "disconnect", "connect_error"))
"""The client's own events; no packet can have these names."""


class Handlers:
    """The functions of one namespace: one for each event, and any number for all events.

    Args:
        untyped: The client's own events; arguments are not converted for their functions.

    Attributes:
        any: Called with the name and arguments of each incoming event, before its own function.
        any_outgoing: Called with the name and arguments of each emitted event, at once.
    """

    __slots__ = ("_functions", "_once", "_untyped", "any", "any_outgoing")

    def __init__(self, untyped: frozenset[str] = LIFECYCLE) -> None:
        self._untyped = untyped
        self._functions: dict[str, Handler] = {}
        self._once: set[str] = set()
        self.any: list[Handler] = []
        self.any_outgoing: list[Callable[..., Any]] = []

    def add(self, event: str, function: Callable[..., Any], *, once: bool = False) -> None:
        """Register an event's function.

        Raises:
            ConfigurationError: The event has a function already, or the function can't be called that way.
        """
        check("event", event, EVENT)
        if event in self._functions:
            raise ConfigurationError(
                f"handler of {event}", function, "no second one; off() takes away the one that is there"
            )
        self._functions[event] = check_handler(event, function, 0, typed=event not in self._untyped)
        if once:
            self._once.add(event)

    def remove(self, event: str | None, function: Callable[..., Any] | None) -> None:
        """Remove an event's function, or all functions.

        Args:
            event: The event's name; ``None`` for all events.
            function: Remove the function only if it is this one; ``None`` for any.
        """
        if event is None:
            self._functions.clear()
            self._once.clear()
            return
        check("event", event, EVENT)
        if event in self._functions and (function is None or self._functions[event].function == function):
            del self._functions[event]
            self._once.discard(event)

    def take(self, event: str) -> Handler | None:
        """Return an event's function for one call; a function registered with ``once`` is removed."""
        function = self._functions.get(event)
        if event in self._once:
            self.remove(event, None)
        return function

    def add_any(self, function: Callable[..., Any]) -> None:
        """Register a function for all incoming events."""
        self.any.append(check_handler("every event", function, 0))

    def remove_any(self, function: Callable[..., Any] | None) -> None:
        """Remove a function for all incoming events; ``None`` removes all of them."""
        self.any = [one for one in self.any if function is not None and one.function != function]

    def add_any_outgoing(self, function: Callable[..., Any]) -> None:
        """Register a function for all emitted events."""
        check("on_any_outgoing", function, FUNCTION)
        if inspect.iscoroutinefunction(function):
            raise ConfigurationError("on_any_outgoing", function, "a function that is not async")
        self.any_outgoing.append(function)

    def remove_any_outgoing(self, function: Callable[..., Any] | None) -> None:
        """Remove a function for all emitted events; ``None`` removes all of them."""
        self.any_outgoing = [one for one in self.any_outgoing if function is not None and one != function]
