"""Finds the value that a packet can't carry, inside the value that could not be encoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import msgspec

__all__ = ["place_of_misfit"]

_MOST_STEPS = 32
"""The longest path that is shown. A value that contains itself has no end."""


def place_of_misfit(value: object, root: str, carries: Callable[[object], bool]) -> str:
    """Return the place of the first value that can't be encoded, as Python names it: ``args[0]['items'][2].price``.

    Args:
        value: The value that could not be encoded.
        root: What stands for it in the answer.
        carries: Returns whether a value can be encoded by itself.

    Returns:
        The place; ``root`` alone if no part of the value fails by itself.
    """
    place = root
    for _ in range(_MOST_STEPS):
        for step, member in _members(value):
            if not carries(member):
                place, value = place + step, member
                break
        else:
            return place
    return place + "…"


def _members(value: object) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, member in value.items():
            yield f"[{_short(key)}]", member
    elif isinstance(value, list | tuple):
        for number, member in enumerate(value):
            yield f"[{number}]", member
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield f".{name}", getattr(value, name)
    elif is_dataclass(value) and not isinstance(value, type):
        for one in fields(value):
            yield f".{one.name}", getattr(value, one.name)
    elif isinstance(names := getattr(type(value), "model_fields", None), dict):  # a pydantic model
        for name in names:
            yield f".{name}", getattr(value, name)


def _short(key: object) -> str:
    text = repr(key)
    return text if len(text) <= 60 else f"{text[:60]}…"
