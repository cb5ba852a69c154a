"""How many bytes a message takes in memory once it is decoded.

A decoded message can be much larger than the message: ``[],`` are 3 bytes on the wire and 72 in memory. To measure
what was decoded would take longer than to decode it. So the size is estimated: the characters that stand for a
container or a value are counted. The estimate is too high for strings with many brackets and commas.
"""

from __future__ import annotations

from sys import getsizeof
from typing import Any

from waypost.protocol.engineio import Frame

__all__ = ["MOST_FOR_A_UNIT", "custom_size", "json_size", "msgpack_size"]

MOST_FOR_A_UNIT = 96
"""The most bytes that a character of text, or a byte of msgpack, takes once it is decoded. JSON takes half of it."""

_MOST_FOR_A_CHARACTER = 48
"""The most bytes that a character of JSON takes once it is decoded. A byte of msgpack takes twice as many."""

_SMALL = 512
"""Shorter messages are not looked at: counting would take longer than they are worth."""

_LIST = 72
_DICT = 184
_VALUE = 56
_QUOTE = 32
_WIDEST_CHARACTER = 4
_SMALL_NUMBER = 8
_LARGE_NUMBER = 40
_MEASURED_VALUES = 1_000
_MSGPACK_TEXT = bytes(range(0x80))
_MSGPACK_LISTS = bytes((*range(0x90, 0xA0), 0xDC, 0xDD))
_MSGPACK_DICTS = bytes((*range(0x80, 0x90), 0xDE, 0xDF))


def json_size(message: Frame, packet: object = None, /) -> int:
    """Estimate what a message takes once it is decoded, if it is text in JSON, or an attachment.

    Args:
        message: Text, or the bytes of an attachment, which stay as they are.
        packet: What was decoded from it, which need not be looked at.

    Returns:
        Bytes.
    """
    size = len(message)
    if not isinstance(message, str):
        return size
    if size < _SMALL:
        return size * _MOST_FOR_A_CHARACTER
    count = message.count
    return (
        (size if message.isascii() else size * _WIDEST_CHARACTER)
        + _LIST * count("[")
        + _DICT * count("{")
        + _VALUE * count(",")
        + _QUOTE * count('"')
    )


def msgpack_size(message: Frame, data: Any) -> int:
    """Estimate what a message in msgpack takes once it is decoded.

    Args:
        message: The message.
        data: What was decoded from it, or ``None``. Up to a thousand values are measured: bytes within a message may
            look like very many containers.

    Returns:
        Bytes.
    """
    size = len(message)
    if size < _SMALL:
        return size * _MOST_FOR_A_CHARACTER * 2
    measured = None if data is None else _measure(data)
    if measured is not None or not isinstance(message, bytes):
        return measured or size
    text, lists, dicts = (
        size - len(message.translate(None, kind)) for kind in (_MSGPACK_TEXT, _MSGPACK_LISTS, _MSGPACK_DICTS)
    )
    return _SMALL_NUMBER * text + _LARGE_NUMBER * (size - text - lists - dicts) + _LIST * lists + _DICT * dicts


def custom_size(message: Frame, data: Any) -> int:
    """Estimate what a message takes once the application's own parser has decoded it.

    Args:
        message: The message.
        data: What was decoded from it. Up to a thousand values are measured.

    Returns:
        Bytes.
    """
    measured = _measure(data)
    return len(message) * _MOST_FOR_A_CHARACTER if measured is None else measured


def _measure(data: Any) -> int | None:
    """Measure what was decoded; ``None`` if it has too many values."""
    total, values, waiting = 0, 0, [data]
    while waiting:
        value = waiting.pop()
        total += getsizeof(value)
        if isinstance(value, list | dict):
            values += len(value)
            if values > _MEASURED_VALUES:
                return None
            waiting.extend(value)
            if isinstance(value, dict):
                waiting.extend(value.values())
    return total
