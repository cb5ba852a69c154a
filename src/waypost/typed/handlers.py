"""A function of the application, for server and client: its signature is read once, then it is run."""

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
        name: What it handles, for errors.
        function: What to call.
        is_async: Whether it is ``async def``; a plain ``def`` runs in a thread.
        fewest: The fewest positional arguments it takes.
        most: The most; infinity for ``*args``.
        leading: How many of them come before an event's own, such as the socket.
        parameters: What an event's own arguments are converted to; ``None`` for nothing.
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
        """Tell whether it can be called with so many arguments of an event."""
        return self.fewest <= self.leading + count <= self.most

    @property
    def expectation(self) -> str:
        """How many arguments of an event it takes, in words."""
        fewest, most = max(self.fewest - self.leading, 0), self.most - self.leading
        if most == inf:
            return f"at least {fewest}"
        return f"{fewest}" if fewest == most else f"{fewest} to {most:g}"

    def convert(self, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """Convert an event's arguments to what its parameters are annotated with; raises `ArgumentMismatch`."""
        return arguments if self.parameters is None else self.parameters.convert(arguments)

    def run(self, arguments: tuple[Any, ...], threads: Executor | None = None) -> Awaitable[Any]:
        """Call the function.

        Args:
            arguments: All its arguments.
            threads: Where a plain ``def`` runs; ``None`` for the event loop's own threads.

        Returns:
            An awaitable of what the function returns. An ``async def`` may raise at once, if it can't be called so.
        """
        if self.is_async:
            awaitable: Awaitable[Any] = self.function(*arguments)
            return awaitable
        return self._run_in_thread(arguments, threads)

    async def _run_in_thread(self, arguments: tuple[Any, ...], threads: Executor | None) -> Any:
        # As asyncio.to_thread does it: what the application keeps in context variables is there in the thread, too.
        call = partial(copy_context().run, self.function, *arguments)
        result = await asyncio.get_running_loop().run_in_executor(threads, call)
        if inspect.isawaitable(result):
            if inspect.iscoroutine(result):
                result.close()  # it has not begun, and Python would only warn that nobody awaited it
            what = getattr(result, "__qualname__", type(result).__name__)
            expected = (
                f"an async def that awaits {what}(…); this def returned it without awaiting it, so it did nothing"
            )
            raise ConfigurationError(f"handler of {self.name}", self.function, expected)
        return result

    def run_with(self, arguments: tuple[Any, ...], threads: Executor | None = None) -> Awaitable[Any]:
        """Call it with as many of the arguments as it takes; see `run`."""
        return self.run(self.fitting(arguments), threads)

    def fitting(self, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """Cut arguments to as many as it takes."""
        return arguments if len(arguments) <= self.most else arguments[: int(self.most)]


def check_handler(
    name: str, function: Callable[..., Any], leading: int, *, concurrent: bool = False, typed: bool = True
) -> Handler:
    """Read a function's signature.

    Args:
        name: What it handles, for errors.
        function: The function.
        leading: How many arguments come before an event's own.
        concurrent: Whether it may run at the same time as other handlers of its socket.
        typed: Whether an event's arguments are converted to its annotations.

    Raises:
        ConfigurationError: It can't be called that way, or arguments can't be converted to an annotation of it.
    """
    if not callable(function):
        raise ConfigurationError(f"handler of {name}", function, "a function")
    call = getattr(function, "__call__", None)  # noqa: B004  # an object whose __call__ is async def
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)
    try:
        signature = inspect.signature(function)
    except ValueError:  # a builtin that does not tell what it takes
        return Handler(name, function, is_async, 0, inf, leading, None, concurrent)
    fewest, most = _count(name, function, signature)
    if most < leading:
        raise ConfigurationError(f"handler of {name}", function, f"a function that takes at least {leading} argument")
    parameters = read_parameters(name, function, leading) if typed else None
    return Handler(name, function, is_async, fewest, most, leading, parameters, concurrent)


def name_of(function: object) -> str:
    """Return a function's name, which is the event that it handles.

    Raises:
        ConfigurationError: It has none, or is no function.
    """
    name = getattr(function, "__name__", None)
    if callable(function) and isinstance(name, str):
        return name
    raise ConfigurationError("event", function, 'a function with a name, as in @event; @on("name") names the event')


def _count(name: str, function: Callable[..., Any], signature: inspect.Signature) -> tuple[int, float]:
    """Count the fewest and the most positional arguments; raises `ConfigurationError` if those are not enough."""
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
