"""What a command prints: aligned tables or JSON to stdout, progress to stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TextIO, TypeVar

from waypost.commands.printing import to_json

__all__ = ["Column", "Progress", "print_json", "print_table"]

_T = TypeVar("_T")

# How often progress is shown: on a terminal, where it is written over; elsewhere, where each is a line.
_TERMINAL_EVERY_S = 0.1
_LINE_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Column(Generic[_T]):
    """A column of a table.

    Attributes:
        title: What stands above it.
        text: What stands in it.
        is_number: Whether it is aligned to the right.
    """

    title: str
    text: Callable[[_T], str]
    is_number: bool = False


def print_table(columns: Sequence[Column[_T]], items: Sequence[_T]) -> None:
    """Print items, one a line, below the columns' titles.

    Args:
        columns: The columns.
        items: The items.
    """
    lines = [[column.title for column in columns], *([column.text(item) for column in columns] for item in items)]
    widths = [max(map(len, texts)) for texts in zip(*lines, strict=True)]
    for line in lines:
        cells = [
            text.rjust(width) if column.is_number else text.ljust(width)
            for column, text, width in zip(columns, line, widths, strict=True)
        ]
        print("  ".join(cells).rstrip())


def print_json(value: object) -> None:
    """Print a value as JSON for people and programs; see `to_json`."""
    print(to_json(value, indented=True))


class Progress:
    """Tells how far something is that takes long; nothing if it is over before.

    Args:
        doing: What is being done, such as ``"purging"``.
        total: How much there is to do, if that is known.
        stream: Where to; stderr by default.
    """

    def __init__(self, doing: str, total: int | None, stream: TextIO | None = None) -> None:
        self._doing = doing
        self._total = total
        self._stream = stream or sys.stderr
        self._on_terminal = self._stream.isatty()
        self._every_s = _TERMINAL_EVERY_S if self._on_terminal else _LINE_EVERY_S
        self._next_at = time.monotonic() + self._every_s
        self._done = 0
        self._width = 0

    def __enter__(self) -> Progress:
        return self

    def advance(self, by: int) -> None:
        """Note that so many more are done."""
        self._done += by
        if time.monotonic() >= self._next_at:
            self._next_at = time.monotonic() + self._every_s
            self._show()

    def __exit__(self, *_: object) -> None:
        if self._width:
            print(f"\r{' ' * self._width}\r", end="", file=self._stream, flush=True)

    def _show(self) -> None:
        text = f"{self._doing}: {self._done:,}"
        if self._total:
            text += f" of {self._total:,} ({min(100, 100 * self._done // self._total)} %)"
        if not self._on_terminal:
            print(text, file=self._stream, flush=True)
            return
        print(f"\r{text.ljust(self._width)}", end="", file=self._stream, flush=True)
        self._width = max(self._width, len(text))
