"""Events and values as lines of text for a terminal."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Sequence
from math import isfinite
from typing import Any

from waypost.text import escape_json

__all__ = ["event_line", "to_json"]

_BOLD_CYAN = "\033[1;36m"
_RESET = "\033[0m"


def to_json(value: Any, *, indented: bool = False) -> str:
    """Encode a value as JSON; bytes become ``{"base64": "…"}``, NaN and infinities ``null``.

    Control characters in the value are escaped, so that a server can't control the terminal.

    Args:
        value: A value that a server sent, or a command's result.
        indented: Whether to indent the text by two spaces a level; else it is one line.

    Returns:
        The JSON text.
    """
    indent = 2 if indented else None
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain, indent=indent)
    except ValueError:
        text = json.dumps(_finite(value), ensure_ascii=False, default=_plain, indent=indent)
    # Unprintable characters occur only inside strings, except for the line breaks of the indentation.
    return escape_json(text)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value


def event_line(name: str, arguments: Sequence[Any], *, as_json: bool) -> str:
    """Format an event as one line.

    Args:
        name: The event's name.
        arguments: The event's arguments.
        as_json: Whether the line is a JSON object with ``event`` and ``args``, for programs.

    Returns:
        The line, without a line break.
    """
    if as_json:
        return to_json({"event": name, "args": arguments})
    shown = name if name.isprintable() else to_json(name)
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        shown = f"{_BOLD_CYAN}{shown}{_RESET}"
    return " ".join((shown, *map(to_json, arguments)))


def _plain(value: object) -> object:
    if isinstance(value, bytes | bytearray | memoryview):
        return {"base64": base64.b64encode(value).decode()}
    return repr(value)
