"""Converts between an acknowledgement's arguments and the one value of a handler or a call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["answer_value", "answer_values"]


def answer_value(values: Sequence[Any]) -> Any:
    """Return the result of a call: the acknowledgement's only argument, a tuple of several, or ``None``."""
    return values[0] if len(values) == 1 else tuple(values) or None


def answer_values(answer: Any) -> tuple[Any, ...]:
    """Return the acknowledgement's arguments for a handler's result: a tuple is several arguments, ``None`` none."""
    if isinstance(answer, tuple):
        return answer
    return () if answer is None else (answer,)
