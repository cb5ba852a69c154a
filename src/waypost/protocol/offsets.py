"""Offsets that servers append to events: recognises, compares and remembers them.

Waypost's offsets are ``<generation>.<n>`` and have an order. The offsets of Node's adapters are opaque: a time in
milliseconds in base 64 (``yeast``) from the in-memory adapter, ``<milliseconds>-<n>`` from Redis Streams, an ObjectId
from MongoDB, and an empty text from adapters without recovery. Node's volatile events carry no offset, so their own
last text must not be mistaken for one: a text counts as an offset only if it has one of these forms and a time within
a day of now.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import NamedTuple

__all__ = ["Offset", "SeenOffsets", "is_before", "is_foreign_offset"]

_YEAST = re.compile(r"([0-9A-Za-z_-]{7})(?:\.[0-9A-Za-z_-]{1,5})?")
_YEAST_DIGITS = {
    digit: value for value, digit in enumerate("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_")
}
_STREAM_ID = re.compile(r"([0-9]{13})-[0-9]{1,10}")
_OBJECT_ID = re.compile(r"([0-9a-f]{8})[0-9a-f]{16}")
_DAY_S = 86_400
# 18 digits always fit into the 64 bits that a store keeps.
_MAX_DIGITS = 18
_MAX_SEEN = 2_000


class Offset(NamedTuple):
    """A position in a journal, as Waypost's servers write it for clients: ``<generation>.<n>``.

    Attributes:
        generation: The name of the history that the position is from.
        position: The position.
    """

    generation: str
    position: int

    @classmethod
    def parse(cls, text: str) -> Offset | None:
        """Read an offset; return ``None`` if the text does not have that form."""
        generation, _, digits = text.rpartition(".")
        if not (generation and digits.isascii() and digits.isdecimal() and len(digits) <= _MAX_DIGITS):
            return None
        return cls(generation, int(digits))

    def __str__(self) -> str:
        return f"{self.generation}.{self.position}"


def is_foreign_offset(text: str, now_s: float) -> bool:
    """Return whether a text is an offset of a server other than Waypost.

    Args:
        text: The last argument of an event.
        now_s: The wall time, in seconds since 1970.

    Returns:
        Whether the text has the form of one of Node's adapters, and a time within a day of now.
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
        offset: The first offset.
        other: The second offset.

    Returns:
        Whether the first is before the second. False for other forms and different generations, which have no order.
    """
    one, another = Offset.parse(offset), Offset.parse(other)
    if one is None or another is None or one.generation != another.generation:
        return False
    return one.position < another.position


class SeenOffsets:
    """The latest 2,000 offsets of a session, for offsets that have no order."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: OrderedDict[str, None] = OrderedDict()

    def add(self, offset: str) -> bool:
        """Remember an offset.

        Args:
            offset: The offset.

        Returns:
            Whether the offset is new.
        """
        if offset in self._seen:
            return False
        self._seen[offset] = None
        if len(self._seen) > _MAX_SEEN:
            self._seen.popitem(last=False)
        return True

    def clear(self) -> None:
        """Forget all offsets."""
        self._seen.clear()
