"""Awaited methods for threads: each is called on the server's event loop, and the thread waits for the result."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import update_wrapper, wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from waypost.own_loop import OwnLoop

__all__ = ["ForThreads", "blocking", "blocking_plain"]

P = ParamSpec("P")
T = TypeVar("T")
W = TypeVar("W")
W_co = TypeVar("W_co", covariant=True)


class ForThreads(Protocol[W_co]):
    """An object whose methods threads call, in front of the one whose methods are awaited."""

    @property
    def _inner(self) -> W_co:
        """The object whose methods are awaited."""
        ...

    @property
    def _own_loop(self) -> OwnLoop:
        """The server's event loop."""
        ...


def blocking(method: Callable[Concatenate[W, P], Awaitable[T]]) -> Callable[Concatenate[ForThreads[W], P], T]:
    """Make a method that calls an awaited one on the server's loop, and returns its result.

    Args:
        method: The awaited method, from its class. The new one has its name, arguments and documentation.
    """

    @wraps(method)
    def call(self: ForThreads[W], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._own_loop.call(method.__name__, method, self._inner, *args, **kwargs)  # its own kind

    return call


def blocking_plain(method: Callable[Concatenate[W, P], T]) -> Callable[Concatenate[ForThreads[W], P], T]:
    """Do the same as `blocking` for a method that is not awaited, and that only the server's loop may call."""

    async def call_plainly(inner: W, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return method(inner, *args, **kwargs)

    update_wrapper(call_plainly, method)
    return blocking(call_plainly)
