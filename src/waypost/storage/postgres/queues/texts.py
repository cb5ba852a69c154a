"""Texts as PostgreSQL can keep them: it knows no NUL character, and clients may send one."""

from __future__ import annotations

from typing import Final

__all__ = ["from_store", "to_store"]

_ESCAPE: Final = "\x01"
_NUL: Final = "\x01\x02"
_ESCAPED: Final = "\x01\x03"


def to_store(text: str) -> str:
    """Return a text as it is kept: without NUL, and different for each text."""
    if _ESCAPE in text:
        text = text.replace(_ESCAPE, _ESCAPED)
    return text.replace("\0", _NUL) if "\0" in text else text


def from_store(kept: str) -> str:
    """Return the text that is kept so."""
    if _ESCAPE not in kept:
        return kept
    return kept.replace(_NUL, "\0").replace(_ESCAPED, _ESCAPE)
