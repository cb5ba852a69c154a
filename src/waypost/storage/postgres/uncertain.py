"""Uncertain writes: finds out what became of a call whose answer was lost.

There are three outcomes. The call was done, and its answer is found again; it was not done, and is sent again; or
that can't be found out in time, and who asked for the write is told so (`StorageUncertain`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from waypost.retrying import Backoff, RetryPolicy
from waypost.storage.postgres.driver import EngineGone, Refusal, Warned

__all__ = ["Settled", "settle"]

_PAUSES: Final = RetryPolicy(first_s=0.05, longest_s=0.5, jitter=0.2)


@dataclass(frozen=True, slots=True)
class Settled:
    """The fate of a call.

    Attributes:
        was_done: Whether it was done.
        answer: Its answer, if it was done.
    """

    was_done: bool
    answer: Any = None


async def settle(
    ask: Callable[[], Awaitable[Any | None]], patience_s: float, gone: Callable[[EngineGone], None]
) -> Settled:
    """Find out what became of a call.

    Args:
        ask: Asks the engine, in a way that proves what it says: it takes a new incarnation for the node, so that the
            call can't be done later; it looks under the lock under which the call writes; and it commits a row of its
            own synchronously. Returns the call's answer, or ``None`` if it was not done.
        patience_s: Seconds for which it is asked again while there is no answer.
        gone: Called each time the engine can't be reached.

    Raises:
        EngineGone: There was no answer in time.
        TimeoutError: The same, and the last question still runs: it is a write, and is left to end by itself.
        Refusal: The same; this was the last one.
        Warned: The same: the engine can't say yet whether its answer will last.
        StorageError: The node can't go on.
    """
    end = time.monotonic() + patience_s
    backoff = Backoff(_PAUSES)
    while True:
        asking = asyncio.ensure_future(ask())
        # Who stops the store has the patience for this, too.
        await asyncio.wait([asking], timeout=max(end - time.monotonic(), 0.0))
        if not asking.done():
            asking.add_done_callback(_forget)
            raise TimeoutError("it holds the lock of the write, and does not answer")
        try:
            answer = asking.result()
        except (EngineGone, Refusal, Warned) as error:
            if isinstance(error, EngineGone) and not error.was_sent:
                gone(error)
            pause_s = backoff.next_s(time.monotonic() % 1)
            if time.monotonic() + pause_s >= end:
                raise
            await asyncio.sleep(pause_s)
        else:
            return Settled(was_done=answer is not None, answer=answer)


def _forget(asking: asyncio.Future[Any]) -> None:
    """Take what came of a question too late."""
    if not asking.cancelled():
        asking.exception()
