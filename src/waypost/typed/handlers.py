"""An application's function, for server and client: reads its signature once, then runs it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any

from waypost.errors import ConfigurationError
from waypost.typed.parameters import Parameters, read_parameters

__all__ = ["Handler", "check_handler", "name_of"]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True, slots=True)
class Handler:
    """A registered function.

    Attributes:
        name: The event's name, for errors.
        function: The function.
        is_async: Whether it is ``async def``; a plain ``def`` runs in a thread.
        fewest: The fewest positional arguments that it takes.
        most: The most positional arguments that it takes; infinity for ``*args``.
        leading: The number of arguments before the event's own, such as the socket.
        parameters: The types of the event's own arguments; ``None`` without types.
        is_concurrent: Whether it may run at the same time as other handlers of its socket.
    """

    name: str
    function: Callable[..., Any]
    is_async: bool
    fewest: int
    most: float
    leading: int
    parameters: Parameters | None
    is_concurrent: bool = False

    def takes(self, count: int) -> bool:
        """Return whether the function can be called with this number of event arguments."""
        return self.fewest <= self.leading + count <= self.most

    @property
    def expectation(self) -> str:
        """The number of event arguments that the function takes, in words."""
        fewest, most = max(self.fewest - self.leading, 0), self.most - self.leading
        if most == inf:
            return f"at least {fewest}"
        return f"{fewest}" if fewest == most else f"{fewest} to {most:g}"

    def convert(self, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """Convert an event's arguments to the types of the function's parameters.

        Raises:
            ArgumentMismatch: An argument does not fit its parameter's type.
        """
        return arguments if self.parameters is None else self.parameters.convert(arguments)

    def run(self, arguments: tuple[Any, ...], threads: Executor | None = None) -> Awaitable[Any]:
        """Call the function.

        Args:
            arguments: All arguments.
            threads: The threads for a plain ``def``; ``None`` for the event loop's own threads.

        Returns:
            An awaitable of the function's result.

        Raises:
            TypeError: An ``async def`` does not take these arguments. A plain ``def`` raises it when awaited.
        """
        if self.is_async:
            awaitable: Awaitable[Any] = self.function(*arguments)
            return awaitable
        return self._run_in_thread(arguments, threads)

    async def _run_in_thread(self, arguments: tuple[Any, ...], threads: Executor | None) -> Any:
        # As in asyncio.to_thread: the thread has the application's context variables too.
        call = partial(copy_context().run, _call, self.function, arguments)
        result = await asyncio.get_running_loop().run_in_executor(threads, call)
        if inspect.isawaitable(result):
            if inspect.iscoroutine(result):
                result.close()  # not started; without this, Python would warn that it was never awaited
            what = getattr(result, "__qualname__", type(result).__name__)
            expected = (
                f"an async def that awaits {what}(…); this def returned it without awaiting it, so it did nothing"
            )
            raise ConfigurationError(f"handler of {self.name}", self.function, expected)
        return result

    def run_with(self, arguments: tuple[Any, ...], threads: Executor | None = None) -> Awaitable[Any]:
        """Call the function with as many of the arguments as it takes; see `run`."""
        return self.run(self.fitting(arguments), threads)

    def fitting(self, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return as many of the arguments as the function takes."""
        return arguments if len(arguments) <= self.most else arguments[: int(self.most)]


def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    try:
        return function(*arguments)
    except StopIteration as error:
        # A future can't carry it, and the handler would never end. A coroutine raises the same error.
        raise RuntimeError(f"{getattr(function, '__qualname__', function)} raised StopIteration") from error


def check_handler(
    name: str, function: Callable[..., Any], leading: int, *, concurrent: bool = False, typed: bool = True
) -> Handler:
    """Read a function's signature.

    Args:
        name: The event's name, for errors.
        function: The function.
        leading: The number of arguments before the event's own.
        concurrent: Whether it may run at the same time as other handlers of its socket.
        typed: Whether to convert an event's arguments to the function's annotations.

    Returns:
        The handler.

    Raises:
        ConfigurationError: The function can't be called that way, or no argument can be converted to an annotation.
    """
    if not callable(function):
        raise ConfigurationError(f"handler of {name}", function, "a function")
    call = getattr(function, "__call__", None)  # noqa: B004  # an object whose __call__ is async def
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)
    try:
        signature = inspect.signature(function)
    except ValueError:  # a builtin function without a signature
        return Handler(name, function, is_async, 0, inf, leading, None, concurrent)
    fewest, most = _count(name, function, signature)
    if most < leading:
        raise ConfigurationError(f"handler of {name}", function, f"a function that takes at least {leading} argument")
    parameters = read_parameters(name, function, leading) if typed else None
    return Handler(name, function, is_async, fewest, most, leading, parameters, concurrent)


def name_of(function: object) -> str:
    """Return a function's name, which is the event's name.

    Raises:
        ConfigurationError: The function has no name, or the argument is not a function.
    """
    name = getattr(function, "__name__", None)
    if callable(function) and isinstance(name, str):
        return name
    raise ConfigurationError("event", function, 'a function with a name, as in @event; @on("name") names the event')


def _count(name: str, function: Callable[..., Any], signature: inspect.Signature) -> tuple[int, float]:
    """Return the fewest and the most positional arguments of a function.

    Raises:
        ConfigurationError: The function has a required keyword-only argument.
    """
    fewest, most = 0, 0.0
    for parameter in signature.parameters.values():
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
    return fewest, most
