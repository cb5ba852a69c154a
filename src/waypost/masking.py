"""Prepares requests and packets for the log: shortened, and without secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from waypost.errors import shorten

__all__ = ["mask", "mask_headers", "mask_text", "mask_url"]

_HIDDEN = "***"
_SECRET = (
    r"[\w-]*(?:auth|cookie|credential|passw|passphrase|passcode|secret|session|token|api[_-]?key)[\w-]*"
    r"|sid|pid|key|pwd|jwt"
)
_SECRET_NAME = re.compile(_SECRET, re.IGNORECASE)
_SECRET_MEMBER = re.compile(rf"""["'](?:{_SECRET})\\?["']\s*:\s*""", re.IGNORECASE)
# A value without a closing quote was cut off. JSON within JSON has its quotes escaped.
_TEXT = r"""\\"(?:(?!\\").)*(?:\\")?|"(?:\\.|[^"\\])*"?|'(?:\\.|[^'\\])*'?"""
_PLAIN = re.compile(rf"""{_TEXT}|[^\s,\[\]{{}}]*""", re.DOTALL)
_STEP = re.compile(rf"""{_TEXT}|[\[\]{{}}]|[^\[\]{{}}"'\\]+|.""", re.DOTALL)
_DEEPEST = 4


def _is_secret(name: object) -> bool:
    return isinstance(name, str) and _SECRET_NAME.fullmatch(name) is not None


def mask(value: Any, deepest: int = _DEEPEST) -> Any:
    """Copy a packet's data for the log: members with secret names are hidden, and binary values become their size.

    Args:
        value: The data.
        deepest: The number of levels to copy, from 0; deeper ones are left out.
    """
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, dict | list | tuple) and deepest == 0:
        return "…"
    if isinstance(value, dict):
        return {name: _HIDDEN if _is_secret(name) else mask(member, deepest - 1) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [mask(member, deepest - 1) for member in value]
    return value


def mask_text(text: str) -> str:
    """Hide the members with secret names in JSON or a part of it, whatever their values are."""
    shown: list[str] = []
    end = 0
    while found := _SECRET_MEMBER.search(text, end):
        shown += (text[end : found.end()], _HIDDEN)
        end = _end_of_value(text, found.end())
    return "".join((*shown, text[end:])) if shown else text


def _end_of_value(text: str, start: int) -> int:
    """Return where a value of JSON ends, lists and objects whole; the text's end if the value was cut off."""
    if text[start : start + 1] not in ("[", "{"):
        found = _PLAIN.match(text, start)
        return start if found is None else found.end()
    depth = 0
    for step in _STEP.finditer(text, start):
        depth += (step[0] in ("[", "{")) - (step[0] in ("]", "}"))
        if depth == 0:
            return step.end()
    return len(text)


def mask_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return a request's headers for the log: shortened, with secrets hidden."""
    return {name: _HIDDEN if _is_secret(name) else shorten(value) for name, value in headers.items()}


def mask_url(url: str) -> str:
    """Return a request's URL for the log: shortened, with secret parameters hidden."""
    parts = urlsplit(url)
    query = [
        (name, _HIDDEN if _is_secret(name) else value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
    ]
    return shorten(f"{parts.path}?{urlencode(query, safe='*')}", 200)
