"""Reports the story in a terminal: a line for each event, with its time and its actor."""

from __future__ import annotations

import os
import time
from typing import TextIO

__all__ = ["Terminal", "duration"]

_RESET = "\033[0m"
_STYLES = {"good": "\033[1;32m", "bad": "\033[1;31m", "dim": "\033[2m", "bold": "\033[1m"}
_SPEAKERS = {"server": "\033[31m", "shop": "\033[36m", "driver": "\033[33m"}


class Terminal:
    """Writes lines to a stream, with colours if the stream is a terminal.

    Args:
        stream: The stream.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._coloured = stream.isatty() and "NO_COLOR" not in os.environ
        self._started_at = time.monotonic()

    def tell(self, who: str, text: str) -> None:
        """Write an actor's deed, after the seconds since the story began.

        Args:
            who: ``"server"``, ``"shop"`` or ``"driver"``.
            text: The deed, without its subject.
        """
        elapsed_s = time.monotonic() - self._started_at
        speaker = self._paint(f"{who:<7}", _SPEAKERS.get(who, ""))
        self._write(f"{self._paint(f'{elapsed_s:6.2f} s', _STYLES['dim'])}  {speaker} {text}")

    def note(self, text: str = "", style: str = "") -> None:
        """Write a line without an actor.

        Args:
            text: The line.
            style: ``"good"``, ``"bad"``, ``"dim"``, ``"bold"`` or ``""``.
        """
        self._write(self._paint(text, _STYLES.get(style, "")))

    def _paint(self, text: str, code: str) -> str:
        return f"{code}{text}{_RESET}" if self._coloured and code and text else text

    def _write(self, line: str) -> None:
        self._stream.write(f"{line}\n")
        self._stream.flush()


def duration(seconds: float) -> str:
    """Format a duration: in milliseconds below a second, else in seconds."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
