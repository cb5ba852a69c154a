"""Checks arguments of calls by the same rules as options."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches

from waypost.checking.constraints import Count, CountOrZero, EventName, Positive, PositiveOrZero, ServedPath
from waypost.checking.rules import Rule, rule_of
from waypost.errors import ConfigurationError

__all__ = [
    "BOOL",
    "COUNT",
    "COUNT_OR_ZERO",
    "EVENT",
    "FUNCTION",
    "NAMESPACE",
    "POSITIVE",
    "POSITIVE_OR_ZERO",
    "TEXT",
    "WAIT",
    "check",
    "nearest",
]

POSITIVE = rule_of(Positive)
POSITIVE_OR_ZERO = rule_of(PositiveOrZero)
COUNT = rule_of(Count)
COUNT_OR_ZERO = rule_of(CountOrZero)
NAMESPACE = rule_of(ServedPath)
EVENT = rule_of(EventName)
TEXT = rule_of(str)
BOOL = rule_of(bool)
FUNCTION = rule_of(Callable)
WAIT = rule_of(PositiveOrZero | None)


def check(option: str, value: object, rule: Rule) -> None:
    """Check an option or an argument.

    Args:
        option: The option's name, for the error.
        value: The value.
        rule: The rule.

    Raises:
        ConfigurationError: The rule does not accept the value.
    """
    if not rule.accepts(value):
        shown = type(value).__name__ if rule.is_secret else value
        meant = _nearest_word(value, rule.known) if rule.suggest is None else rule.suggest(value)
        raise ConfigurationError(option, shown, rule.expected, suggestion=meant)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that was probably meant.

    ``pingTimeout`` is as close to ``ping_timeout_s`` as ``ping_timeout`` is.

    Args:
        name: The given name.
        known: The known names.

    Returns:
        The closest known name, or ``None`` if none is close.
    """
    plain = {one.replace("_", "").lower(): one for one in known}
    found = get_close_matches(name.replace("_", "").lower(), plain, n=1, cutoff=0.7)
    return plain[found[0]] if found else None


def _nearest_word(value: object, known: Sequence[str]) -> str | None:
    for word in value if isinstance(value, list | tuple) else [value]:
        if isinstance(word, str) and word not in known and (found := nearest(word, known)):
            return f'"{found}"'
    return None
