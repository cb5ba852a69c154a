"""Repeats a short job of the writer until nothing is left to do, with pauses in which others have their turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from waypost.storage.sqlite.jobs import Transaction
from waypost.storage.sqlite.writer import Writer

__all__ = ["repeat"]


async def repeat(writer: Writer, step: Callable[[Transaction], int], *, least_pause_s: float = 0.0) -> int:
    """Run a job until nothing is left to do.

    Each pause is as long as the step before it took, so that others find every second turn free.

    Args:
        writer: What to write with.
        step: The job; returns how much it did, 0 if nothing was left.
        least_pause_s: The shortest pause, in seconds.

    Returns:
        The sum of the results.
    """
    done = 0
    began = time.monotonic()
    while part := await writer.submit(step):
        done += part
        await asyncio.sleep(max(time.monotonic() - began, least_pause_s))
        began = time.monotonic()
    return done
