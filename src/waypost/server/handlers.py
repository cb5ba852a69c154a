"""The application's functions: their signatures, read once at registration, and how they are run."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from math import inf
from typing import Any, TypeVar

from waypost.errors import ConfigurationError

__all__ = ["Handler", "HandlerTable", "check_handler"]

F = TypeVar("F", bound=Callable[..., Any])

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True, slots=True)
class Handler:
    """A registered function.

    Attributes:
        function: What to call.
        is_async: Whether it is ``async def``; a plain ``def`` runs in a thread.
        fewest: The fewest positional arguments it takes.
        most: The most; infinity for ``*args``.
    """

    function: Callable[..., Any]
    is_async: bool
    fewest: int
    most: float

    def takes(self, count: int) -> bool:
        """Tell whether it can be called with so many arguments."""
        return self.fewest <= count <= self.most

    def expectation(self, leading: int) -> str:
        """Say how many arguments it takes, not counting the ``leading`` ones that the server adds."""
        fewest, most = max(self.fewest - leading, 0), self.most - leading
        if most == inf:
            return f"at least {fewest}"
        return f"{fewest}" if fewest == most else f"{fewest} to {most:g}"

    async def run(self, arguments: tuple[Any, ...], threads: Executor) -> Any:
        """Call it and return what it returns; raises what it raises."""
        if self.is_async:
            return await self.function(*arguments)
        return await asyncio.get_running_loop().run_in_executor(threads, self.function, *arguments)

    async def run_with(self, arguments: tuple[Any, ...], threads: Executor) -> Any:
        """Call it with as many of the arguments as it takes."""
        count = len(arguments) if self.most == inf else min(len(arguments), int(self.most))
        return await self.run(arguments[:count], threads)


def check_handler(name: str, function: Callable[..., Any], leading: int) -> Handler:
    """Read a function's signature.

    Args:
        name: What it handles, for the error.
        function: The function.
        leading: How many arguments the server always passes.

    Raises:
        ConfigurationError: It can't be called that way.
    """
    if not callable(function):
        raise ConfigurationError(f"handler of {name}", function, "a function")
    fewest, most = 0, 0.0
    for parameter in inspect.signature(function).parameters.values():
        required = parameter.default is inspect.Parameter.empty
        if parameter.kind in _POSITIONAL:
            most += 1
            fewest += required
        elif parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            most = inf
        elif parameter.kind is inspect.Parameter.KEYWORD_ONLY and required:
            raise ConfigurationError(
                f"handler of {name}", function, f"no required keyword-only argument ({parameter.name})"
            )
    if most < leading:
        raise ConfigurationError(f"handler of {name}", function, f"a function that takes at least {leading} argument")
    call = getattr(function, "__call__", None)  # noqa: B004  # an object whose __call__ is async def
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)
    return Handler(function, is_async, fewest, most)


class HandlerTable:
    """The handlers of one namespace by event name; one handler an event.

    ``connect`` and ``disconnect`` are among them; they are called by the server, never by a client's packet.
    """

    __slots__ = ("_handlers",)

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}

    def add(self, event: str, function: Callable[..., Any]) -> None:
        """Register an event's handler; an earlier one is replaced."""
        self._handlers[event] = check_handler(event, function, 1)

    def get(self, event: str) -> Handler | None:
        """Return an event's handler."""
        return self._handlers.get(event)
