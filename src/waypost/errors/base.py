"""The base of every error, and how values are shown in their sentences."""

from __future__ import annotations

from reprlib import Repr
from typing import Any

__all__ = ["OUTLINE", "WaypostError", "cut", "misfit", "shorten"]

_SHOWN_CHARACTERS = 60
_SHOWN_PROBLEM_CHARACTERS = 200
OUTLINE = Repr()  # cuts long, large and deeply nested values


def shorten(value: object, limit: int = _SHOWN_CHARACTERS) -> str:
    """Return a value's ``repr``, short enough for an error message or a log line.

    Args:
        value: Any value with a ``repr``.
        limit: The longest text to return, in characters, from 1.

    Returns:
        The ``repr``. A longer one is cut at ``limit`` characters; text and bytes then get their full length appended.
    """
    try:
        text = repr(value[: limit + 1]) if isinstance(value, str | bytes) else repr(value)
    except ValueError:  # Python writes no number of more than some thousand digits
        text = f"<{type(value).__name__}>"
    if len(text) <= limit:
        return text
    size = f" ({len(value)} in all)" if isinstance(value, str | bytes) else ""
    return f"{text[:limit]}…{size}"


def cut(problem: str) -> str:
    """Return a problem in words, cut to a line or two."""
    return problem if len(problem) <= _SHOWN_PROBLEM_CHARACTERS else f"{problem[:_SHOWN_PROBLEM_CHARACTERS]}…"


def misfit(expected: str, received: object, fault: str) -> str:
    """Return the reason why a value does not fit a type, without the value."""
    sentence = f"expected {expected}, received {type(received).__name__}"
    return f"{sentence}: {cut(fault)}" if fault else sentence


class WaypostError(Exception):
    """The root of the tree: ``except WaypostError`` catches every error that Waypost raises."""

    def __reduce__(self) -> tuple[Any, ...]:
        # `args` may differ from the constructor's arguments, so pickle and copy rebuild an error from its data.
        return _rebuild, (type(self), self.args, dict(self.__dict__))


def _rebuild(kind: type[WaypostError], args: tuple[Any, ...], data: dict[str, Any]) -> WaypostError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(data)
    return error
