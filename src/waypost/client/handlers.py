"""The application's functions, by event: read once at registration, then awaited."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any

from waypost.errors import ConfigurationError
from waypost.typed.parameters import Parameters, read_parameters

__all__ = ["LIFECYCLE", "Function", "Handlers"]

LIFECYCLE = frozenset(("connect", "disconnect", "connect_error"))
"""Events that the client itself makes; no packet can."""

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the application's.

    Attributes:
        given: The function as it was given.
        is_async: Whether it is ``async def``; a plain ``def`` runs in a thread.
        most: The most arguments it takes; infinity for ``*args``.
        parameters: What an event's arguments are converted to; ``None`` for nothing.
        once: Whether it is called once only.
    """

    given: Callable[..., Any]
    is_async: bool
    most: float
    parameters: Parameters | None = None
    once: bool = False

    @classmethod
    def read(cls, name: str, function: Callable[..., Any], *, once: bool = False, typed: bool = True) -> Function:
        """Read a function's signature.

        Args:
            name: What it handles, for errors.
            function: The function.
            once: Whether it is to be called once only.
            typed: Whether its arguments come from the network, and are converted to what its annotations say.

        Raises:
            ConfigurationError: It is none, or arguments can't be converted to an annotation of it.
        """
        if not callable(function):
            raise ConfigurationError(f"handler of {name}", function, "a function")
        method = getattr(function, "__call__", None)  # noqa: B004  # an object whose __call__ is async def
        is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(method)
        most = _most_arguments(function)
        parameters = read_parameters(name, function, 0) if typed and most is not None else None
        return cls(function, is_async, inf if most is None else most, parameters, once)

    def convert(self, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """Convert an event's arguments to what its parameters are annotated with; raises `ArgumentMismatch`."""
        return arguments if self.parameters is None else self.parameters.convert(arguments)

    async def run(self, arguments: tuple[Any, ...]) -> Any:
        """Call it and return what it returns; raises what it raises."""
        if self.is_async:
            return await self.given(*arguments)
        return await asyncio.to_thread(self.given, *arguments)

    async def run_with(self, arguments: tuple[Any, ...]) -> Any:
        """Call it with as many of the arguments as it takes."""
        if len(arguments) > self.most:
            arguments = arguments[: int(self.most)]
        return await self.run(arguments)


def _most_arguments(function: Callable[..., Any]) -> float | None:
    """Tell how many arguments a function takes; ``None`` for a builtin that does not say."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return None
    if any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters):
        return inf
    return sum(parameter.kind in _POSITIONAL for parameter in parameters)


class Handlers:
    """The functions of one namespace: one an event, and any number that see every event.

    Args:
        untyped: The events that the client itself makes; the annotations of their functions are for readers.

    Attributes:
        any: Called with every event of the server, its name first, before its own function is.
        any_outgoing: Called with every event that is emitted, at once.
    """

    __slots__ = ("_functions", "_untyped", "any", "any_outgoing")

    def __init__(self, untyped: frozenset[str] = LIFECYCLE) -> None:
        self._untyped = untyped
        self._functions: dict[str, Function] = {}
        self.any: list[Function] = []
        self.any_outgoing: list[Callable[..., Any]] = []

    def add(self, event: str, function: Callable[..., Any], *, once: bool = False) -> None:
        """Register an event's function; raises `ConfigurationError` if there is one, or it can't be one."""
        if event in self._functions:
            raise ConfigurationError(
                f"handler of {event}", function, "no second one; off() takes away the one that is there"
            )
        self._functions[event] = Function.read(event, function, once=once, typed=event not in self._untyped)

    def remove(self, event: str | None, function: Callable[..., Any] | None) -> None:
        """Take an event's function away, or all functions; with ``function`` only if that is it."""
        if event is None:
            self._functions.clear()
        elif event in self._functions and (function is None or self._functions[event].given == function):
            del self._functions[event]

    def take(self, event: str) -> Function | None:
        """Return an event's function, for one call of it."""
        function = self._functions.get(event)
        if function is not None and function.once:
            del self._functions[event]
        return function

    def add_any(self, function: Callable[..., Any]) -> None:
        """Register a function for every event."""
        self.any.append(Function.read("every event", function))

    def remove_any(self, function: Callable[..., Any] | None) -> None:
        """Take such a function away, or all of them."""
        self.any = [one for one in self.any if function is not None and one.given != function]

    def add_any_outgoing(self, function: Callable[..., Any]) -> None:
        """Register a function for every event that is emitted."""
        if inspect.iscoroutinefunction(function):
            raise ConfigurationError("on_any_outgoing", function, "a function that is not async")
        self.any_outgoing.append(function)

    def remove_any_outgoing(self, function: Callable[..., Any] | None) -> None:
        """Take such a function away, or all of them."""
        self.any_outgoing = [one for one in self.any_outgoing if function is not None and one != function]
