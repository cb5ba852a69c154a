"""Makes untrusted text safe to show in a terminal or a log line."""

from __future__ import annotations

import json
import unicodedata

__all__ = ["columns_of", "escape_json", "printable"]

_NO_COLUMN = frozenset(("Mn", "Me", "Cf"))
_WIDE = frozenset(("W", "F"))
# Vowels and final consonants of Korean, which join the syllable before them.
_FIRST_JOINED_JAMO = "\u1160"
_LAST_JOINED_JAMO = "\u11ff"


def printable(text: str, limit: int | None = None) -> str:
    r"""Replace each unprintable character of a text with its escape sequence.

    Unprintable are all characters for which `str.isprintable` is false: line ends, ESC and the other control
    characters of C0 and C1, marks for the direction of writing, other invisible characters, and lone surrogates.
    ``"a\n"`` becomes ``"a\\n"``.

    Args:
        text: Any text.
        limit: The longest result, in characters, from 1; ``None`` for no limit.

    Returns:
        The text. A text over the limit is cut between two of its characters, and ends with ``…``.
    """
    if text.isprintable() and (limit is None or len(text) <= limit):
        return text
    begun = text if limit is None else text[: limit + 1]
    parts = [one if one.isprintable() else one.encode("unicode_escape").decode() for one in begun]
    if limit is None or sum(map(len, parts)) <= limit:
        return "".join(parts)
    left = limit - 1
    for kept, part in enumerate(parts):
        left -= len(part)
        if left < 0:
            return "".join(parts[:kept]) + "…"
    return "".join(parts)


def escape_json(text: str) -> str:
    """Escape the unprintable characters in a JSON text; it stands for the same value.

    Args:
        text: JSON, whose only unprintable characters outside of strings are line breaks.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one == "\n" else json.dumps(one)[1:-1] for one in text)


def columns_of(text: str) -> int:
    """Return the number of columns that a printable text takes on a terminal.

    East Asian wide characters and emoji take two, combining marks none, as Unicode's tables say. A terminal that
    draws a sequence of emoji as one picture may take fewer.

    Args:
        text: The text, as `printable` returns it.
    """
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.category(character) in _NO_COLUMN or _FIRST_JOINED_JAMO <= character <= _LAST_JOINED_JAMO:
        return 0
    return 2 if unicodedata.east_asian_width(character) in _WIDE else 1
