"""Output of the commands: aligned tables, sentences or JSON to stdout, progress to stderr."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TextIO, TypeVar

from waypost.commands.human import age
from waypost.commands.printing import to_json
from waypost.text import columns_of

__all__ = ["Column", "Progress", "print_json", "print_table", "tell", "waiting"]

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


def tell(options: argparse.Namespace, told: str, result: Mapping[str, object]) -> None:
    """Print the result of a command: as JSON with ``--json``, else as sentences.

    Args:
        options: The parsed command line, with ``json``.
        told: The sentences.
        result: The same for programs.
    """
    if options.json:
        print_json(result)
    else:
        print(told)


async def waiting(doing: str, work: Awaitable[_T], stream: TextIO | None = None) -> _T:
    """Await work whose size nobody knows, and report how long it lasts already.

    Args:
        doing: The task, in words.
        work: The work; it is cancelled if this is.
        stream: As for `Progress`.

    Returns:
        The result of the work.

    Raises:
        Exception: Any error that the work raises.
    """
    import asyncio  # not at the top: commands without such work should not wait for it

    task = asyncio.ensure_future(work)
    began_at = time.monotonic()
    try:
        with Progress(doing, None, stream) as progress:
            while not (await asyncio.wait((task,), timeout=_TERMINAL_EVERY_S))[0]:
                progress.last(time.monotonic() - began_at)
        return await task
    finally:
        task.cancel()


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
        text = f"{self._doing}: {self._done:,}"
        if self._total:
            text += f" of {self._total:,} ({min(100, 100 * self._done // self._total)} %)"
        self._report(text)

    def last(self, seconds: float) -> None:
        """Report how long work of unknown size lasts already, when a report is due.

        Args:
            seconds: The time since its beginning.
        """
        self._report(f"{self._doing}: for {age(seconds)}")

    def __exit__(self, *_: object) -> None:
        if self._width:
            print(f"\r{' ' * self._width}\r", end="", file=self._stream, flush=True)

    def _report(self, text: str) -> None:
        if time.monotonic() < self._next_at:
            return
        self._next_at = time.monotonic() + self._every_s
        if not self._on_terminal:
            print(text, file=self._stream, flush=True)
            return
        print(f"\r{_padded(text, self._width)}", end="", file=self._stream, flush=True)
        self._width = max(self._width, columns_of(text))
