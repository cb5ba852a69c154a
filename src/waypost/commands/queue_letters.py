"""Reads the dead letters that the filters of the command line select, in pages."""

from __future__ import annotations

import argparse
import time
from collections.abc import AsyncIterator

from waypost.protocol.records import read_values
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import DeadLetterFilter, DeadLetterRow

__all__ = ["filter_of", "has_filter", "only", "pages"]

_PAGE = 500
_PAGE_BYTES = 8 << 20


def has_filter(options: argparse.Namespace) -> bool:
    """Return whether the command line has a filter."""
    return any(
        getattr(options, name) is not None
        for name in ("consumer", "reason", "event", "since", "until", "id", "key", "number")
    )


def filter_of(options: argparse.Namespace) -> DeadLetterFilter:
    """Return the filter of the command line, without the event; it matches no letter that dies from now on."""
    return DeadLetterFilter(
        consumer=options.consumer,
        numbers=options.number,
        id=options.id,
        key=options.key,
        reason=options.reason,
        died_after=options.since,
        # A letter that is redriven now may die again; this run must not redrive it a second time.
        died_before=time.time() if options.until is None else options.until,
    )


async def pages(
    queue: StoredQueue, matching: DeadLetterFilter, event: str | None, *, after: int = 0
) -> AsyncIterator[list[DeadLetterRow]]:
    """Read the matching dead letters, in pages that are never empty.

    Args:
        queue: The queue.
        matching: The filter.
        event: Only letters with this event; ``None`` for all.
        after: Only letters after this number.

    Yields:
        A page of letters, in the order of their numbers.
    """
    while letters := await queue.dead_letters(matching, after=after, max_letters=_PAGE, max_bytes=_PAGE_BYTES):
        after = letters[-1].number
        if event is not None:
            letters = [one for one in letters if read_values(one.record)[0] == event]
        if letters:
            yield letters


def only(letters: list[DeadLetterRow]) -> DeadLetterFilter:
    """Return a filter that matches these letters and no others."""
    return DeadLetterFilter(numbers=[one.number for one in letters])
