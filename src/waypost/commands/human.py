"""Sizes, ages and times for humans: shown, and read from the command line."""

from __future__ import annotations

import argparse
import re
import time
from datetime import UTC, datetime
from math import inf

__all__ = ["age", "count", "duration", "instant", "moment", "point", "rate", "size"]

_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[smhdw])+")
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_KIBIBYTE = 1024


def size(size_bytes: int) -> str:
    """Show a number of bytes, such as ``1.5 KiB``."""
    if size_bytes < _KIBIBYTE:
        return f"{size_bytes} B"
    amount = float(size_bytes)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= _KIBIBYTE
        if amount < _KIBIBYTE:
            return f"{amount:.1f} {unit}"
    return f"{amount / _KIBIBYTE:.1f} TiB"


def age(seconds: float) -> str:
    """Show a number of seconds by its two largest units, such as ``2d 3h``."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        amount, left = divmod(left, length)
        if amount or parts:
            parts.append(f"{amount}{unit}")
    return " ".join(parts[:2]) or "0s"


def instant(seconds: float | None) -> str | None:
    """Give a wall time as ISO 8601, for JSON; ``"forever"`` for infinity."""
    if seconds is None:
        return None
    return "forever" if seconds == inf else datetime.fromtimestamp(seconds, UTC).isoformat()


def duration(text: str) -> float:
    """Take a duration from the command line, such as ``90s`` or ``1d12h``; returns seconds.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    if not _DURATION.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a duration such as 90s, 15m, 1h30m, 2d or 1w")
    return sum(float(amount) * _UNITS_S[unit] for amount, unit in _PART.findall(text))


def moment(text: str) -> float:
    """Take a time in the past from the command line: a duration before now, or ISO 8601, local if it has no zone.

    Returns:
        Wall time, in seconds.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    if _DURATION.fullmatch(text):
        return time.time() - duration(text)
    return point(text)


def point(text: str) -> float:
    """Take a time from the command line as ISO 8601, local if it has no zone; returns wall time in seconds.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected a time such as 2026-11-24T08:00, or a duration such as 2h"
        ) from error


def rate(text: str) -> float:
    """Take a number a second from the command line, above 0.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < inf:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number a second above 0")
    return number


def count(text: str) -> int:
    """Take a whole number from 1 from the command line.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 1")
    return int(text)
