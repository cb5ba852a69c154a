"""Begins calls of the store at once, in the order in which they were asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Generic, Protocol, TypeVar

__all__ = ["Listener", "Then", "begin"]

_T = TypeVar("_T")
_T_contra = TypeVar("_T_contra", contravariant=True)


class Listener(Protocol[_T_contra]):
    """Learns how a call has ended."""

    def done(self, result: _T_contra, /) -> None:
        """Take its result."""
        ...

    def failed(self, error: BaseException, /) -> None:
        """Take its error."""
        ...


class Then(Generic[_T]):
    """A `Listener` made of two functions."""

    __slots__ = ("_done", "_failed")

    def __init__(self, done: Callable[[_T], None], failed: Callable[[BaseException], None]) -> None:
        self._done = done
        self._failed = failed

    def done(self, result: _T) -> None:
        """Take its result."""
        self._done(result)

    def failed(self, error: BaseException) -> None:
        """Take its error."""
        self._failed(error)


def begin(work: Awaitable[_T], listener: Listener[_T]) -> None:
    """Run an awaitable up to its first pause now, and the rest as what it waits for is done.

    A task would begin one turn of the loop later, and cost more. The awaitable is never cancelled, and must not ask
    for the current task.

    Args:
        work: The awaitable.
        listener: Learns how it ends.
    """
    _Running(work, listener).step()


class _Running(Generic[_T]):
    __slots__ = ("_listener", "_steps")

    def __init__(self, work: Awaitable[_T], listener: Listener[_T]) -> None:
        self._steps: Generator[Any, Any, _T] = work.__await__()
        self._listener = listener

    def step(self, _: object = None) -> None:
        try:
            waits_for = next(self._steps)
        except StopIteration as end:
            self._listener.done(end.value)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - it is handed to who asked
            self._listener.failed(error)
        else:
            if waits_for is None:
                asyncio.get_running_loop().call_soon(self.step)
            else:
                waits_for.add_done_callback(self.step)
