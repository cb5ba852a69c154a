"""Events and values as lines of text."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Sequence
from math import isfinite
from typing import Any

__all__ = ["event_line", "to_json"]

_BOLD_CYAN = "\033[1;36m"
_RESET = "\033[0m"


def to_json(value: Any, *, indented: bool = False) -> str:
    """Write a value as JSON in which a terminal finds nothing to obey.

    Bytes become ``{"base64": "…"}``, numbers that JSON lacks ``null``, other values of Python their ``repr``.
    Characters that are not printable are written as JSON's escapes, so that a program reads the same text.

    Args:
        value: What came from somebody else.
        indented: Whether for people, over several lines; otherwise it is one line.
    """
    indent = 2 if indented else None
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain, indent=indent)
    except ValueError:
        text = json.dumps(_finite(value), ensure_ascii=False, default=_plain, indent=indent)
    # What is not printable stands inside a string, except for the line ends of the indentation.
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    return character if character.isprintable() or character == "\n" else json.dumps(character)[1:-1]


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value


def event_line(name: str, arguments: Sequence[Any], *, as_json: bool) -> str:
    """Write an event as a line.

    Args:
        name: Its name.
        arguments: Its arguments.
        as_json: Whether for a program: an object with ``event`` and ``args``.
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
