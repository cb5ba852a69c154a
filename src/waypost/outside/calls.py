"""Runs the asynchronous methods of an emitter or an API for programs without asyncio."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

from waypost.loop_thread import LoopThread

__all__ = ["Calls"]

P = ParamSpec("P")
T = TypeVar("T")


class Calls:
    """Runs methods in a thread of this process; a forked process gets one of its own.

    Args:
        name: The thread's name.
        close: The method that closes what the methods have opened.
    """

    def __init__(self, name: str, close: Callable[[], Any]) -> None:
        self._name = name
        self._close = close
        self._threads: dict[int, LoopThread] = {}

    def run(self, method: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a method on the thread's loop, and wait for its result."""
        thread = self._threads.get(os.getpid())
        if thread is None:
            # Of two threads that come first at once, both get the same.
            thread = self._threads.setdefault(os.getpid(), LoopThread(self._name, self._close))
        return thread.run(method, *args, **kwargs)

    def stop(self) -> None:
        """End the thread of this process; a later call starts it again."""
        thread = self._threads.pop(os.getpid(), None)
        if thread is not None:
            thread.stop()
