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
"""Events that the client itself makes; no packet can."""


class Handlers:
    """The functions of one namespace: one an event, and any number that see every event.

    Args:
        untyped: The events that the client itself makes; the annotations of their functions are for readers.

    Attributes:
        any: Called with every event of the server, its name first, before its own function is.
        any_outgoing: Called with every event that is emitted, at once.
    """

    __slots__ = ("_functions", "_once", "_untyped", "any", "any_outgoing")

    def __init__(self, untyped: frozenset[str] = LIFECYCLE) -> None:
        self._untyped = untyped
        self._functions: dict[str, Handler] = {}
        self._once: set[str] = set()
        self.any: list[Handler] = []
        self.any_outgoing: list[Callable[..., Any]] = []

    def add(self, event: str, function: Callable[..., Any], *, once: bool = False) -> None:
        """Register an event's function; raises `ConfigurationError` if there is one, or it can't be one."""
        check("event", event, EVENT)
        if event in self._functions:
            raise ConfigurationError(
                f"handler of {event}", function, "no second one; off() takes away the one that is there"
            )
        self._functions[event] = check_handler(event, function, 0, typed=event not in self._untyped)
        if once:
            self._once.add(event)

    def remove(self, event: str | None, function: Callable[..., Any] | None) -> None:
        """Take an event's function away, or all functions; with ``function`` only if that is it."""
        if event is None:
            self._functions.clear()
            self._once.clear()
            return
        check("event", event, EVENT)
        if event in self._functions and (function is None or self._functions[event].function == function):
            del self._functions[event]
            self._once.discard(event)

    def take(self, event: str) -> Handler | None:
        """Return an event's function, for one call of it."""
        function = self._functions.get(event)
        if event in self._once:
            self.remove(event, None)
        return function

    def add_any(self, function: Callable[..., Any]) -> None:
        """Register a function for every event."""
        self.any.append(check_handler("every event", function, 0))

    def remove_any(self, function: Callable[..., Any] | None) -> None:
        """Take such a function away, or all of them."""
        self.any = [one for one in self.any if function is not None and one.function != function]

    def add_any_outgoing(self, function: Callable[..., Any]) -> None:
        """Register a function for every event that is emitted."""
        check("on_any_outgoing", function, FUNCTION)
        if inspect.iscoroutinefunction(function):
            raise ConfigurationError("on_any_outgoing", function, "a function that is not async")
        self.any_outgoing.append(function)

    def remove_any_outgoing(self, function: Callable[..., Any] | None) -> None:
        """Take such a function away, or all of them."""
        self.any_outgoing = [one for one in self.any_outgoing if function is not None and one != function]
