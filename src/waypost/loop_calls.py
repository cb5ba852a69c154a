"""Calls from one thread to an event loop of another, which block until the result is there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from functools import partial
from typing import ParamSpec, TypeVar

__all__ = ["call_on"]

P = ParamSpec("P")
T = TypeVar("T")

_LOOK_S = 1.0
"""How often a caller looks whether the loop has ended with the call in it."""


def call_on(
    loop: asyncio.AbstractEventLoop, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Call a function on an event loop, await its result there, and block until then.

    The function has the caller's context variables. An interruption such as Ctrl-C cancels the call. The function is
    called on the loop and not before, so an interruption leaves no coroutine that nobody awaits.

    Args:
        loop: The loop. It runs in another thread.
        function: The function.
        *args: Its arguments.
        **kwargs: Its named arguments.

    Returns:
        The awaited result.

    Raises:
        RuntimeError: The loop is closed, or was closed before the result was there.
        Exception: Any error that the function raises.
    """
    result: Future[T] = Future()
    try:
        loop.call_soon_threadsafe(_begin, loop, partial(function, *args, **kwargs), result)
        while True:
            try:
                return result.result(_LOOK_S)
            except TimeoutError:
                if result.done():
                    return result.result()
                if loop.is_closed():
                    raise RuntimeError("the event loop was closed during the call") from None
    except BaseException:
        result.cancel()
        raise


def _begin(loop: asyncio.AbstractEventLoop, function: Callable[[], Awaitable[T]], result: Future[T]) -> None:
    if result.cancelled():
        return
    task = loop.create_task(_run(function, result))

    def stop(done: Future[T]) -> None:
        if done.cancelled() and not loop.is_closed():
            loop.call_soon_threadsafe(task.cancel)

    result.add_done_callback(stop)


async def _run(function: Callable[[], Awaitable[T]], result: Future[T]) -> None:
    try:
        value = await function()
    except asyncio.CancelledError:
        result.cancel()
        raise
    except BaseException as error:
        if not result.cancelled():
            result.set_exception(error)
        if not isinstance(error, Exception):
            raise
    else:
        if not result.cancelled():
            result.set_result(value)
