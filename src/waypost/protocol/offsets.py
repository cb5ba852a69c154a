"""Offsets as servers write them behind an event: what is one, and which ones were seen.

Waypost's are ``<generation>.<n>``, and have an order. Those of Node's adapters are opaque: the in-memory adapter's is
a time in milliseconds in base 64 (``yeast``), Redis Streams' is ``<milliseconds>-<n>``, MongoDB's an ObjectId, and
adapters without recovery write an empty text. Node leaves them out of volatile events, so that such an event's own
last text must not be taken for one: only what has one of these forms and the time of this very day is.
"""

from __future__ import annotations

import re
from collections import OrderedDict

__all__ = ["SeenOffsets", "is_before", "is_foreign_offset"]

_YEAST = re.compile(r"([0-9A-Za-z_-]{7})(?:\.[0-9A-Za-z_-]{1,5})?")
_YEAST_DIGITS = {
    digit: value for value, digit in enumerate("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_")
}
_STREAM_ID = re.compile(r"([0-9]{13})-[0-9]{1,10}")
_OBJECT_ID = re.compile(r"([0-9a-f]{8})[0-9a-f]{16}")
_DAY_S = 86_400
_MAX_DIGITS = 20
_MAX_SEEN = 2_000


def is_foreign_offset(text: str, now_s: float) -> bool:
    """Tell whether a text is an offset of a server that is not Waypost.

    Args:
        text: The last argument of an event.
        now_s: The time of day, in seconds since 1970.

    Returns:
        Whether it has the form of one of Node's adapters, and a time within a day of now.
    """
    time_s = _time_of(text)
    return time_s is not None and abs(time_s - now_s) < _DAY_S


def _time_of(text: str) -> float | None:
    if yeast := _YEAST.fullmatch(text):
        milliseconds = 0
        for digit in yeast[1]:
            milliseconds = milliseconds * 64 + _YEAST_DIGITS[digit]
        return milliseconds / 1000
    if stream_id := _STREAM_ID.fullmatch(text):
        return int(stream_id[1]) / 1000
    if object_id := _OBJECT_ID.fullmatch(text):
        return int(object_id[1], 16)
    return None


def is_before(offset: str, other: str) -> bool:
    """Compare two offsets of Waypost's form.

    Args:
        offset: One offset.
        other: Another one.

    Returns:
        Whether the first comes before the other; false for other forms and other generations, which have no order.
    """
    generation, _, n = offset.rpartition(".")
    other_generation, _, other_n = other.rpartition(".")
    return generation == other_generation and _is_number(n) and _is_number(other_n) and int(n) < int(other_n)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS


class SeenOffsets:
    """The latest offsets of a session, for those that have no order."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: OrderedDict[str, None] = OrderedDict()

    def add(self, offset: str) -> bool:
        """Take note of an offset.

        Args:
            offset: The offset.

        Returns:
            Whether it is new.
        """
        if offset in self._seen:
            return False
        self._seen[offset] = None
        if len(self._seen) > _MAX_SEEN:
            self._seen.popitem(last=False)
        return True

    def clear(self) -> None:
        """Forget all."""
        self._seen.clear()
