"""A map with growing keys that can be read from any key on."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

__all__ = ["Ordered"]

_V = TypeVar("_V")

# What was removed is forgotten when it outweighs what is left, and is at least so much.
_MIN_GARBAGE = 64


class Ordered(Generic[_V]):
    """Values by position. Positions are added in growing order, and removed in any."""

    __slots__ = ("_begin", "_order", "_values")

    def __init__(self) -> None:
        self._values: dict[int, _V] = {}
        # The positions, with those that were removed from between since the last compaction.
        self._order: list[int] = []
        self._begin = 0

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, position: int) -> bool:
        return position in self._values

    def __getitem__(self, position: int) -> _V:
        return self._values[position]

    def get(self, position: int) -> _V | None:
        """Return the value at a position, or ``None``."""
        return self._values.get(position)

    def append(self, position: int, value: _V) -> None:
        """Add a value at a position beyond all that are there."""
        self._values[position] = value
        self._order.append(position)

    def replace(self, position: int, value: _V) -> None:
        """Replace the value at a position."""
        self._values[position] = value

    def pop(self, position: int) -> _V | None:
        """Remove and return the value at a position, or return ``None``."""
        values, order, begin = self._values, self._order, self._begin
        value = values.pop(position, None)
        if not values:
            # Smaller positions may come now: a consumer that has settled all of it may be moved back.
            self._order, self._begin = [], 0
            return value
        while order[begin] not in values:
            begin += 1
        self._begin = begin
        garbage = len(order) - len(values)
        if garbage > _MIN_GARBAGE and garbage > len(values):
            self._compact()
        return value

    def first(self) -> int | None:
        """Return the smallest position."""
        return self._order[self._begin] if self._values else None

    def after(self, position: int) -> Iterator[int]:
        """Return the positions after one, in order; no position may be removed in the meantime."""
        order = self._order
        for index in range(max(self._begin, bisect_right(order, position)), len(order)):
            if order[index] in self._values:
                yield order[index]

    def before_first(self, least: float, of: Callable[[_V], float]) -> int:
        """Return the position before the first value that reaches a bound; values must not shrink."""
        self._compact()
        index = bisect_left(self._order, least, key=lambda position: of(self._values[position]))
        if index < len(self._order):
            return self._order[index] - 1
        return self._order[-1] if self._order else 0

    def _compact(self) -> None:
        if len(self._order) > len(self._values):
            self._order = [*self._values]
        self._begin = 0
