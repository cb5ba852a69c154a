"""The event loop that the server runs on: calls on another loop are refused, calls from threads are brought to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from threading import get_ident
from typing import ParamSpec, TypeVar

from waypost.errors import ConfigurationError, StoreClosed, WaypostError, WrongEventLoop
from waypost.loop_calls import call_on

__all__ = ["OwnLoop"]

P = ParamSpec("P")
T = TypeVar("T")


class OwnLoop:
    """The event loop that the server runs on, from its start to its stop.

    The parts of a server have no locks: only this loop may call them. What counts is the loop that runs a call, and
    not who asked for it.

    Attributes:
        thread: The id of the loop's thread; 0 before the start, and after the stop.
        is_running: Returns whether the loop runs.
    """

    __slots__ = ("_loop", "is_running", "thread")

    def __init__(self) -> None:
        self.leave()

    def enter(self) -> None:
        """Take the running loop as the server's."""
        self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        self.is_running: Callable[[], bool] = self._loop.is_running
        self.thread = get_ident()

    def leave(self) -> None:
        """Have no loop: the server is stopped."""
        self._loop = None
        self.is_running = bool
        self.thread = 0

    def check(self, action: str) -> None:
        """Check that the caller runs on the server's loop. It takes 0.1 µs.

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
        if loop is None or loop.is_closed():
            raise self.refusal(action)
        if get_ident() == self.thread and self.is_running():
            expected = f"a thread; on the server's own event loop, await {action} itself"
            raise ConfigurationError("from_thread", "a call on the event loop", expected)
        return call_on(loop, function, *args, **kwargs)

    def refusal(self, action: str) -> WaypostError:
        """Return the error for a call that does not run on the server's loop."""
        if self._loop is None:
            return StoreClosed("the server's store")
        return WrongEventLoop(action, is_closed=self._loop.is_closed())
