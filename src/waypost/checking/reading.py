"""Reads values of options that are no Python: texts of an environment or a command line, and values of a file."""

from __future__ import annotations

import json
from collections.abc import Iterator

from waypost.checking.rules import Rule

__all__ = ["read_text", "read_value"]

_NONE = "none"
_TRUE = frozenset(("true", "yes", "on", "1"))
_FALSE = frozenset(("false", "no", "off", "0"))


def read_text(text: str, rule: Rule) -> object:
    """Read a text as the first kind of value that a rule accepts.

    These are, in this order: ``none``; a word for True or False; a number; the text itself; a list, as JSON or with
    commas between its items.

    Args:
        text: The text.
        rule: The rule for the value.

    Returns:
        The value. If the rule accepts none of them, the text itself, which a check refuses.
    """
    return next((value for value in _values_in(text) if rule.accepts(value)), text)


def read_value(value: object, rule: Rule) -> object:
    """Read a value of a TOML file. It stays as it is; ``"none"`` is None where the rule accepts that.

    Args:
        value: The value.
        rule: The rule for it.
    """
    is_none = isinstance(value, str) and value.lower() == _NONE and rule.accepts(None)
    return None if is_none else value


def _values_in(text: str) -> Iterator[object]:
    word = text.strip().lower()
    if word == _NONE:
        yield None
    if word in _TRUE:
        yield True
    if word in _FALSE:
        yield False
    for number in (int, float):
        try:
            yield number(text)
        except ValueError:
            continue
    yield text
    if word.startswith("["):
        try:
            yield json.loads(text)
        except ValueError:
            return
    yield [item for one in text.split(",") if (item := one.strip())]
