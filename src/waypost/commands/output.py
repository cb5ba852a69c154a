"""Output of the commands: aligned tables or JSON to stdout, progress to stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TextIO, TypeVar

from waypost.commands.printing import to_json
from waypost.text import columns_of

__all__ = ["Column", "Progress", "print_json", "print_table"]

_T = TypeVar("_T")

# A terminal shows progress in one line that is overwritten. Elsewhere each report is a line, so they are rarer.
_TERMINAL_EVERY_S = 0.1
_LINE_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Column(Generic[_T]):
    """A column of a table.

    Attributes:
        title: The column's heading.
        text: Returns the cell's text for an item.
        is_number: Whether cells are aligned to the right.
    """

    title: str
    text: Callable[[_T], str]
    is_number: bool = False


def print_table(columns: Sequence[Column[_T]], items: Sequence[_T]) -> None:
    """Print the columns' titles, then each item as a line.

    Args:
        columns: The columns, from left to right.
        items: The items, from top to bottom.
    """
    lines = [[column.title for column in columns], *([column.text(item) for column in columns] for item in items)]
    widths = [max(map(columns_of, texts)) for texts in zip(*lines, strict=True)]
    for line in lines:
        cells = [
            _padded(text, width, to_right=column.is_number)
            for column, text, width in zip(columns, line, widths, strict=True)
        ]
        print("  ".join(cells).rstrip())


def _padded(text: str, width: int, *, to_right: bool = False) -> str:
    pad = " " * (width - columns_of(text))
    return pad + text if to_right else text + pad


def print_json(value: object) -> None:
    """Print a value as JSON; bytes in it become ``{"base64": "…"}``."""
    print(to_json(value, indented=True))


class Progress:
    """A context manager that reports the progress of a long task; a task that is over soon reports nothing.

    Args:
        doing: The task, in words, such as ``"purging"``.
        total: The amount of work, or ``None`` if it is unknown.
        stream: The stream for reports; ``None`` for stderr.
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
        """Add to the amount of work that is done, and report it when a report is due.

        Args:
            by: The amount of work that was done since the last call.
        """
        self.reach(self._done + by)

    def reach(self, done: int, total: int | None = None) -> None:
        """Set the amount of work that is done, and report it when a report is due.

        Args:
            done: The amount of work that is done.
            total: The amount of all work; ``None`` if it is the same as before.
        """
        self._done = done
        self._total = self._total if total is None else total
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
        print(f"\r{_padded(text, self._width)}", end="", file=self._stream, flush=True)
        self._width = max(self._width, columns_of(text))
