"""Sizes, durations and times for humans: formats them, and parses them from the command line."""

from __future__ import annotations

import argparse
import re
import time
from datetime import UTC, datetime
from math import inf

from waypost.checking.arguments import COUNT, COUNT_OR_ZERO
from waypost.checking.names import as_name
from waypost.checking.rules import Rule
from waypost.errors import ConfigurationError, shorten

__all__ = ["age", "count", "duration", "instant", "moment", "name", "offset", "point", "rate", "size"]

_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[smhdw])+")
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_KIBIBYTE = 1024
_MAX_DIGITS = 20


def size(size_bytes: int) -> str:
    """Format a number of bytes, such as ``1.5 KiB``."""
    if size_bytes < _KIBIBYTE:
        return f"{size_bytes} B"
    amount = float(size_bytes)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= _KIBIBYTE
        if amount < _KIBIBYTE:
            return f"{amount:.1f} {unit}"
    return f"{amount / _KIBIBYTE:.1f} TiB"


def age(seconds: float) -> str:
    """Format a duration in seconds with its two largest units, such as ``2d 3h``."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        amount, left = divmod(left, length)
        if amount or parts:
            parts.append(f"{amount}{unit}")
    return " ".join(parts[:2]) or "0s"


def instant(seconds: float | None) -> str | None:
    """Format a wall time as ISO 8601, for JSON; infinity becomes ``"forever"``."""
    if seconds is None:
        return None
    return "forever" if seconds == inf else datetime.fromtimestamp(seconds, UTC).isoformat()


def duration(text: str) -> float:
    """Parse a duration from the command line, such as ``90s`` or ``1d12h``.

    Returns:
        The duration, in seconds.

    Raises:
        argparse.ArgumentTypeError: The text is not a duration.
    """
    if not _DURATION.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a duration such as 90s, 15m, 1h30m, 2d or 1w")
    return sum(float(amount) * _UNITS_S[unit] for amount, unit in _PART.findall(text))


def moment(text: str) -> float:
    """Parse a time in the past from the command line: a duration before now, or ISO 8601.

    A time without a time zone is local.

    Returns:
        Wall time, in seconds since 1970.

    Raises:
        argparse.ArgumentTypeError: The text is neither.
    """
    if _DURATION.fullmatch(text):
        return time.time() - duration(text)
    return point(text)


def point(text: str) -> float:
    """Parse a time in ISO 8601 from the command line. A time without a time zone is local.

    Returns:
        Wall time, in seconds since 1970.

    Raises:
        argparse.ArgumentTypeError: The text is not such a time.
    """
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected a time such as 2026-11-24T08:00, or a duration such as 2h"
        ) from error


def rate(text: str) -> float:
    """Parse a number per second from the command line.

    Returns:
        The number, above 0 and finite.

    Raises:
        argparse.ArgumentTypeError: The text is not such a number.
    """
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < inf:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number per second above 0")
    return number


def count(text: str) -> int:
    """Parse a whole number from the command line.

    Returns:
        The number, from 1.

    Raises:
        argparse.ArgumentTypeError: The text is not such a number.
    """
    return _whole(text, COUNT)


def offset(text: str) -> int:
    """Parse an offset from the command line, or another number that begins with 0.

    Returns:
        The number, from 0.

    Raises:
        argparse.ArgumentTypeError: The text is not such a number.
    """
    return _whole(text, COUNT_OR_ZERO)


def name(text: str) -> str:
    """Check the name of a queue, a consumer, a message or a key from the command line.

    Returns:
        The name.

    Raises:
        argparse.ArgumentTypeError: No queue, consumer, message or key can be called that.
    """
    try:
        return as_name("name", text)
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: expected {error.expected}") from error


def _whole(text: str, rule: Rule) -> int:
    if not (text.isdecimal() and len(text) < _MAX_DIGITS and rule.accepts(int(text))):
        raise argparse.ArgumentTypeError(f"{shorten(text)}: expected {rule.expected}")
    return int(text)
