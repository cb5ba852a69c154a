"""Begins calls of the store at once, in the order in which they were asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Generic, TypeVar

__all__ = ["begin"]

_T = TypeVar("_T")


def begin(work: Awaitable[_T], done: Callable[[_T], None], failed: Callable[[BaseException], None]) -> None:
    """Run an awaitable up to its first pause now, and the rest as what it waits for is done.

    A task would begin one turn of the loop later, and cost more. The awaitable is never cancelled, and must not ask
    for the current task.

    Args:
        work: What is to be done.
        done: Called with its result.
        failed: Called with its exception.
    """
    _Running(work, done, failed).step()


class _Running(Generic[_T]):
    __slots__ = ("_done", "_failed", "_steps")

    def __init__(
        self, work: Awaitable[_T], done: Callable[[_T], None], failed: Callable[[BaseException], None]
    ) -> None:
        self._steps: Generator[Any, Any, _T] = work.__await__()
        self._done = done
        self._failed = failed

    def step(self, _: object = None) -> None:
        try:
            waits_for = next(self._steps)
        except StopIteration as end:
            self._done(end.value)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - it is handed to who asked
            self._failed(error)
        else:
            if waits_for is None:
                asyncio.get_running_loop().call_soon(self.step)
            else:
                waits_for.add_done_callback(self.step)
