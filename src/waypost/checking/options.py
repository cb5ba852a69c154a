"""Options: dataclasses whose values are checked before an object is made."""

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
    """Add checks to a dataclass of options.

    Write it above ``@dataclass(frozen=True, slots=True, kw_only=True)``. The type of each field, with the constraints
    of `waypost.checking.constraints`, tells the accepted values. A rule for two fields together belongs in
    ``__post_init__``, which runs after each value was checked alone.

    Args:
        public_name: The name of the options' owner, as users write it: ``waypost.Server``.
        prefix: The prefix of names in errors: ``recovery.`` for options inside another option.

    Returns:
        The decorator. The new constructor, which `dataclasses.replace` uses too, raises `ConfigurationError` for an
        unknown option, with the closest known one, and for a value that is not accepted.
    """

    def decorate(kind: type[T]) -> type[T]:
        make: Callable[..., None] = kind.__init__
        # Read when the first object is made: annotations may name classes that are defined later.
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
    """Return the rule of each field of a dataclass.

    Args:
        kind: The class. The names in its annotations must be imported.

    Returns:
        The rules by field name, in the fields' order.
    """
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: rule_of(hints[field.name]) for field in fields(kind)}


def _refuse_unknown(public_name: str, given: Mapping[str, object], rules: Mapping[str, Rule]) -> None:
    for name, value in given.items():
        if name in rules:
            continue
        meant = nearest(name, rules)
        # With a wrong name, the value may be a password.
        may_be_secret = rules[meant].is_secret if meant else any(rule.is_secret for rule in rules.values())
        shown = type(value).__name__ if may_be_secret else value
        raise ConfigurationError(name, shown, f"an option of {public_name}", suggestion=meant)


def refuse_positional(public_name: str, positional: Sequence[object], first: str) -> None:
    """Refuse a value without its option's name; the error shows the line to write instead.

    Raises:
        ConfigurationError: There is a positional value.
    """
    if positional:
        value = positional[0]
        raise ConfigurationError(
            first, value, f"the option's name before it: {public_name}({first}={shorten(value)})"
        )
