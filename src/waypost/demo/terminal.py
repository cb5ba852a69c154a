"""Tells the story in a terminal: a line for each thing that happens, with its time and who did it."""

from __future__ import annotations

import os
import time
from typing import TextIO

__all__ = ["Terminal", "duration"]

_RESET = "\033[0m"
_STYLES = {"good": "\033[1;32m", "bad": "\033[1;31m", "dim": "\033[2m", "bold": "\033[1m"}
_SPEAKERS = {"server": "\033[31m", "shop": "\033[36m", "driver": "\033[33m"}


class Terminal:
    """Writes to a stream, in colours if a person is reading it.

    Args:
        stream: Where to write.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._coloured = stream.isatty() and "NO_COLOR" not in os.environ
        self._started_at = time.monotonic()

    def tell(self, who: str, text: str) -> None:
        """Write what someone did, with the seconds since the story began."""
        elapsed_s = time.monotonic() - self._started_at
        speaker = self._paint(f"{who:<7}", _SPEAKERS.get(who, ""))
        self._write(f"{self._paint(f'{elapsed_s:6.2f} s', _STYLES['dim'])}  {speaker} {text}")

    def note(self, text: str = "", style: str = "") -> None:
        """Write a line of its own: ``good``, ``bad``, ``dim``, ``bold`` or plain."""
        self._write(self._paint(text, _STYLES.get(style, "")))

    def _paint(self, text: str, code: str) -> str:
        return f"{code}{text}{_RESET}" if self._coloured and code and text else text

    def _write(self, line: str) -> None:
        self._stream.write(f"{line}\n")
        self._stream.flush()


def duration(seconds: float) -> str:
    """Put a time into words: milliseconds below a second."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
