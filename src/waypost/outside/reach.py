"""How a program without a server reaches its service: a way out for each process, and each event loop in turn."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Generic, Literal, Protocol, TypeVar

from waypost.errors import WrongEventLoop

__all__ = ["Closable", "Reach"]


class Closable(Protocol):
    """A way out that holds connections."""

    async def close(self) -> None:
        """Close the connections."""
        ...


T = TypeVar("T", bound=Closable)


class Reach(Generic[T]):
    """The way out of this process and the running event loop.

    Args:
        make: Makes a way out, without connecting. It is called once at the beginning, and may raise then.
        owner: The object that reaches out, for the error.
    """

    def __init__(self, make: Callable[[], T], owner: Literal["emitter", "api"]) -> None:
        self._make = make
        self._owner: Literal["emitter", "api"] = owner
        self._way: T | None = make()
        self._pid = 0
        # A connection that was made before a fork is neither used nor closed in the child: it is the parent's.
        self._inherited: list[T] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def way(self, action: str) -> T:
        """Return the way out for the running loop.

        Args:
            action: The method that needs it, for the error.

        Raises:
            WrongEventLoop: Another loop, which still runs, uses it; or no loop of asyncio's runs.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise WrongEventLoop(action, is_asyncio=False, owner=self._owner) from None
        if self._way is not None and self._pid == os.getpid() and self._loop is loop:
            return self._way
        if self._pid == os.getpid() and self._loop is not None and self._loop.is_running():
            raise WrongEventLoop(action, owner=self._owner)
        if self._way is None or self._loop is not None:
            # A forked process, or a later loop: the connections of the earlier one are no use here.
            if self._way is not None and self._pid != os.getpid():
                self._inherited.append(self._way)
            self._way = self._make()
        self._pid, self._loop = os.getpid(), loop
        return self._way

    async def close(self) -> None:
        """Close the way out, if this process and loop have used it."""
        way, self._way = self._way, None
        if way is not None and self._pid == os.getpid() and self._loop is asyncio.get_running_loop():
            await way.close()
        self._loop = None
