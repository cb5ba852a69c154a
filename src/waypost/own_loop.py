"""The event loop that a server or a client belongs to: calls on another one are refused, threads reach it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from threading import get_ident
from typing import Literal, ParamSpec, TypeVar

from waypost.errors import ConfigurationError, StoreClosed, WaypostError, WrongEventLoop
from waypost.loop_calls import call_on

__all__ = ["OwnLoop"]

P = ParamSpec("P")
T = TypeVar("T")


class OwnLoop:
    """The event loop that a server runs on, from its start to its stop; or a client, from its first use on.

    Their parts have no locks: only this loop may call them. What counts is the loop that runs a call, and not who
    asked for it.

    Args:
        owner: Whose loop it is, for errors.

    Attributes:
        thread: The id of the loop's thread; 0 without a loop.
        is_running: Returns whether the loop runs.
    """

    __slots__ = ("_loop", "_owner", "is_running", "thread")

    def __init__(self, owner: Literal["server", "client"] = "server") -> None:
        self._owner: Literal["server", "client"] = owner
        self.leave()

    def enter(self, action: str) -> None:
        """Take the running loop.

        Args:
            action: The method that was called, for the error.

        Raises:
            WrongEventLoop: No loop of asyncio's runs here.
        """
        try:
            self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            raise WrongEventLoop(action, is_asyncio=False, owner=self._owner) from None
        self.is_running: Callable[[], bool] = self._loop.is_running
        self.thread = get_ident()

    def leave(self) -> None:
        """Have no loop, as before `enter`."""
        self._loop = None
        self.is_running = bool
        self.thread = 0

    @property
    def is_here(self) -> bool:
        """Whether the caller runs on the loop."""
        return get_ident() == self.thread and self.is_running()

    def check(self, action: str) -> None:
        """Check that the caller runs on the loop. It takes 0.1 µs.

        A thread runs one loop at a time. So the thread and the loop's state tell which one runs; the running loop
        itself would cost a system call in Python 3.11.

        Args:
            action: The method that was called, for the error.

        Raises:
            StoreClosed: The server has not started, or was closed.
            WrongEventLoop: The caller runs on another loop, or on none of asyncio's.
        """
        if get_ident() != self.thread or not self.is_running():
            raise self.refusal(action)

    def call(self, action: str, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function on the loop and await its result there, for a thread, which waits for it.

        Args:
            action: The method that was called, for errors.
            function: The function.
            *args: Its arguments.
            **kwargs: Its named arguments.

        Returns:
            The awaited result.

        Raises:
            ConfigurationError: The caller runs on the loop itself, and would wait for itself.
            StoreClosed: The server has not started, or was closed.
            WrongEventLoop: The server's loop has ended.
            Exception: Any error that the function raises.
        """
        loop = self._loop
        if loop is None:
            raise StoreClosed("of the server")
        if loop.is_closed():
            raise WrongEventLoop(action, is_closed=True, owner=self._owner)
        if get_ident() == self.thread and self.is_running():
            expected = f"a thread; on the server's own event loop, await {action} itself"
            raise ConfigurationError("from_thread", "a call on the event loop", expected)
        return call_on(loop, function, *args, **kwargs)

    def enter_or_check(self, action: str) -> None:
        """Take the running loop at the first call, and check at each later one that it runs on that loop.

        Raises:
            WrongEventLoop: The caller runs on another loop, or on none of asyncio's.
        """
        if get_ident() != self.thread or not self.is_running():
            if self._loop is not None:
                raise self.refusal(action)
            self.enter(action)

    def refusal(self, action: str) -> WaypostError:
        """Return the error for a call that does not run on the loop."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return WrongEventLoop(action, is_asyncio=False, owner=self._owner)
        if self._loop is None:
            return StoreClosed("of the server")
        return WrongEventLoop(action, is_closed=self._loop.is_closed(), owner=self._owner)
