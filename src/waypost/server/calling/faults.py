"""Faults of the application's code, of any type. Every place that calls such code asks `fault` about them."""

from __future__ import annotations

import asyncio

__all__ = ["fault"]


def fault(raised: BaseException) -> BaseException:
    """Tell a fault of the application's code from what is meant for the task that runs it.

    Code may raise anything: `SystemExit` by a call of ``sys.exit``, or `asyncio.CancelledError` because it awaited a
    task that was cancelled. Such a fault concerns its own event only, like any other.

    Args:
        raised: What the code raised; caught in the task that ran the code.

    Returns:
        The same exception, which the caller reports.

    Raises:
        BaseException: The exception again, if the task itself is being cancelled, or the program interrupted.
    """
    if isinstance(raised, asyncio.CancelledError):
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise raised
    elif isinstance(raised, KeyboardInterrupt | GeneratorExit):
        raise raised
    return raised
