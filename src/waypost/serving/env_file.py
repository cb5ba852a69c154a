"""Reads a file of variables for the environment, with a line NAME=value for each."""

from __future__ import annotations

import re
from pathlib import Path

from waypost.errors import ConfigurationError

__all__ = ["read_env_file"]

_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")
_ESCAPES = {"n": "\n", "t": "\t"}


def read_env_file(option: str, path: str) -> dict[str, str]:
    """Read the variables of a file.

    Blank lines and lines that begin with ``#`` are skipped. A value may stand in quotes; within double quotes a
    backslash escapes the next character. Without quotes it ends before `` #``. Nothing is replaced in values.

    Args:
        option: What names the file, for errors.
        path: The file.

    Returns:
        The values by name.

    Raises:
        ConfigurationError: The file can't be read, or a line has another form. The error shows no value.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ConfigurationError(option, path, f"a file that can be read; it says: {error}") from error
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        value = None if match is None else _unquoted(match[2])
        if match is None or value is None:
            raise ConfigurationError(option, path, f"lines NAME=value; line {number} is none")
        found[match[1]] = value
    return found


def _unquoted(text: str) -> str | None:
    """Return a value without its quotes; ``None`` if they do not end."""
    if text[:1] == "'":
        value, end, rest = text[1:].partition("'")
        return value if end and _is_blank(rest) else None
    if text[:1] == '"':
        found = re.fullmatch(r'"((?:\\.|[^"\\])*)"(.*)', text)
        if found is None or not _is_blank(found[2]):
            return None
        return re.sub(r"\\(.)", lambda escape: _ESCAPES.get(escape[1], escape[1]), found[1])
    return re.split(r"\s#", text, maxsplit=1)[0].strip()


def _is_blank(text: str) -> bool:
    return not text.strip() or text.strip().startswith("#")
