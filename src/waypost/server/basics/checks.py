"""Checks of options, shared by all that have some."""

from __future__ import annotations

from waypost.errors import ConfigurationError

__all__ = ["require_choice", "require_count", "require_name", "require_number"]


def require_number(name: str, value: object, *, above: float) -> None:
    """Raise `ConfigurationError` unless an option is a number above a bound; above -1 reads "from 0"."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > above:
        raise ConfigurationError(name, value, f"a number above {above}" if above >= 0 else "a number from 0")


def require_count(name: str, value: object) -> None:
    """Raise `ConfigurationError` unless an option is a whole number from 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(name, value, "a whole number from 1")


def require_name(name: str, value: object) -> None:
    """Raise `ConfigurationError` unless something is a text that is not empty."""
    if not isinstance(value, str) or not value:
        raise ConfigurationError(name, value, "a text that is not empty")


def require_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise `ConfigurationError` unless an option is one of a few words."""
    if value not in choices:
        raise ConfigurationError(name, value, " or ".join(f'"{choice}"' for choice in choices))
