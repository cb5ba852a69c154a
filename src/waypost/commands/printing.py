"""Events and values as lines of text."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

__all__ = ["event_line", "printable", "to_json"]

_BOLD_CYAN = "\033[1;36m"
_RESET = "\033[0m"


def to_json(value: Any) -> str:
    """Write a value as one line of JSON; bytes become ``{"base64": "…"}``.

    Nothing that a server sends gets to the terminal as a control character.

    Args:
        value: What came from the server.
    """
    text = json.dumps(value, ensure_ascii=False, default=_bytes)
    return text if text.isprintable() else json.dumps(value, default=_bytes)


def printable(text: str) -> str:
    """Write what is no printable character of a text as an escape sequence."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


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


def _bytes(value: object) -> dict[str, str]:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise TypeError(f"{type(value).__name__} is no JSON")
    return {"base64": base64.b64encode(value).decode()}
