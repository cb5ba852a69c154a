"""Parts of what a queue in memory has: pages within limits, and what a filter selects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from waypost.storage.queue_records import DeadLetterFilter, DeadLetterRow, MessageRow

__all__ = ["matches", "page_of", "page_of_names", "while_holds"]

_T = TypeVar("_T", MessageRow, DeadLetterRow)


def page_of_names(names: Iterable[str], after: str, most: int) -> list[str]:
    """Return the first names after one, in the order of their UTF-8."""
    # That is the order of their code points, which is Python's.
    return [*islice((name for name in sorted(names) if name > after), most)]


def page_of(found: Iterable[_T], most: int, max_bytes: int) -> list[_T]:
    """Return the first rows within a number and a size; the first one is always returned."""
    page: list[_T] = []
    size = 0
    for one in found:
        size += len(one.record)
        if len(page) == most or (page and size > max_bytes):
            break
        page.append(one)
    return page


def while_holds(messages: Iterable[MessageRow], holds: Callable[[MessageRow], bool]) -> Iterator[MessageRow]:
    """Return messages up to the first one for which a condition does not hold."""
    for one in messages:
        if not holds(one):
            return
        yield one


def matches(matching: DeadLetterFilter, one: DeadLetterRow) -> bool:
    """Return whether a filter selects a dead letter."""
    return (
        matching.consumer in (None, one.consumer)
        and (matching.numbers is None or one.number in matching.numbers)
        and matching.id in (None, one.id)
        and matching.key in (None, one.key)
        and (matching.reason is None or matching.reason in one.reason)
        and (matching.died_after is None or one.died_at >= matching.died_after)
        and (matching.died_before is None or one.died_at < matching.died_before)
    )
