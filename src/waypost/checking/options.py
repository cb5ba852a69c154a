"""Options: dataclasses whose values are checked before an object is made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import cache, wraps
from typing import Any, TypeVar, get_type_hints

from waypost.checking.arguments import check, nearest
from waypost.checking.rules import Rule, rule_of
from waypost.errors import ConfigurationError, shorten

__all__ = ["checked", "refuse_positional", "rules_of"]

T = TypeVar("T")


def checked(public_name: str, *, prefix: str = "") -> Callable[[type[T]], type[T]]:
    """Make a dataclass of options one that refuses what they can't be.

    Write it above ``@dataclass(frozen=True, slots=True, kw_only=True)``. The type of each field, with the constraints
    of `waypost.checking.constraints`, says what the field takes. A rule for two fields together belongs into
    ``__post_init__``, which runs after each value was checked alone.

    Args:
        public_name: What the options are of, as users write it: ``waypost.Server``.
        prefix: What errors put before a name: ``recovery.`` where it is an option inside another one.

    Returns:
        The decorator. The constructor that it makes, which `dataclasses.replace` uses too, raises
        `ConfigurationError` for an unknown option, with the nearest known one, and for a value that does not fit.
    """

    def decorate(kind: type[T]) -> type[T]:
        make: Callable[..., None] = kind.__init__
        # Read when the first object is made: annotations may name what is defined later.
        read_rules = cache(lambda: rules_of(kind))

        @wraps(make)
        def init(self: T, /, *positional: object, **given: object) -> None:
            rules = read_rules()
            refuse_positional(public_name, positional, next(iter(rules)))
            _refuse_unknown(public_name, given, rules)
            for name, value in given.items():
                check(prefix + name, value, rules[name])
                if take := rules[name].take:
                    given[name] = take(value)
            make(self, **given)

        type.__setattr__(kind, "__init__", init)
        return kind

    return decorate


def rules_of(kind: Any) -> Mapping[str, Rule]:
    """Read what each field of a dataclass takes.

    Args:
        kind: The class. What its annotations name must have been imported.

    Returns:
        The rules by the fields' names, in their order.
    """
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: rule_of(hints[field.name]) for field in fields(kind)}


def _refuse_unknown(public_name: str, given: Mapping[str, object], rules: Mapping[str, Rule]) -> None:
    for name, value in given.items():
        if name in rules:
            continue
        meant = nearest(name, rules)
        # With a wrong name, nobody knows whether the value is a password.
        may_be_secret = rules[meant].is_secret if meant else any(rule.is_secret for rule in rules.values())
        shown = type(value).__name__ if may_be_secret else value
        raise ConfigurationError(name, shown, f"an option of {public_name}", suggestion=meant)


def refuse_positional(public_name: str, positional: Sequence[object], first: str) -> None:
    """Raise `ConfigurationError` for a value without its option's name, with the line to write instead."""
    if positional:
        value = positional[0]
        raise ConfigurationError(
            first, value, f"the option's name before it: {public_name}({first}={shorten(value)})"
        )
