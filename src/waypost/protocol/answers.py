"""An acknowledgement's arguments, and the one value that a handler returns or a call gives for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["answer_value", "answer_values"]


def answer_value(values: Sequence[Any]) -> Any:
    """Turn an acknowledgement's arguments into what a call returns: the only one, a tuple of several, or ``None``."""
    return values[0] if len(values) == 1 else tuple(values) or None


def answer_values(answer: Any) -> tuple[Any, ...]:
    """Turn what a handler returns into an acknowledgement's arguments: a tuple is several, ``None`` none."""
    if isinstance(answer, tuple):
        return answer
    return () if answer is None else (answer,)
