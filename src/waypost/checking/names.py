"""Names from the application (of rooms, queues, consumers, messages), converted to text."""

from __future__ import annotations

from collections.abc import Collection, Set
from typing import TypeAlias

from waypost.errors import ConfigurationError

__all__ = ["Name", "Names", "as_name", "as_names", "is_name"]

Name: TypeAlias = str | int
"""A name: text, or a whole number, which stands for its decimal text."""

Names: TypeAlias = Name | Collection[Name]
"""A name, or a list, tuple or set of names."""

_NAME = "text that is not empty, or a whole number"
_NAMES = "text, a whole number, or a list, tuple or set of these"
_SURROGATE = "text that UTF-8 can carry"


def as_name(option: str, value: Name) -> str:
    """Convert the name of a queue, a consumer, a message or a key to text.

    Args:
        option: The named thing, for the error.
        value: The name.

    Returns:
        The text; of a whole number, its decimal text.

    Raises:
        ConfigurationError: The value is empty, or neither text nor a whole number.
    """
    if value.__class__ is str and value.isascii() and value:  # the most frequent case, and each message has two
        return value
    if text := _as_text(option, value, _NAME):
        return text
    raise ConfigurationError(option, value, _NAME)


def is_name(value: object) -> bool:
    """Return whether `as_name` accepts a value."""
    try:
        as_name("name", value)  # type: ignore[arg-type]
    except ConfigurationError:
        return False
    return True


def as_names(option: str, values: Collection[Names]) -> Collection[str]:
    """Convert the arguments of a call to names of rooms: each is a name, or a list, tuple or set of names.

    Args:
        option: The named thing, for the error.
        values: The arguments.

    Returns:
        The names as text, in order.

    Raises:
        ConfigurationError: An argument is neither a name nor a collection of names.
    """
    for value in values:
        if value.__class__ is not str or not value.isascii():
            break
    else:
        return values  # type: ignore[return-value]  # each is text: nothing is to be done for the most frequent call
    names: list[str] = []
    for value in values:
        if isinstance(value, list | tuple | Set):
            names += [_as_text(option, one, _NAMES) for one in value]
        else:
            names.append(_as_text(option, value, _NAMES))
    return names


def _as_text(option: str, value: object, expected: str) -> str:
    if isinstance(value, str):
        if not value.isascii():
            _check_encoding(option, value)
        return str.__str__(value)  # of an enum's member, its value
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return int.__repr__(value)
        except ValueError:  # Python writes no number of more than some thousand digits
            raise ConfigurationError(option, value, expected) from None
    raise ConfigurationError(option, value, expected)


def _check_encoding(option: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(option, value, _SURROGATE) from None
