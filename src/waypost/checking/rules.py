"""Converts a type hint, with its constraints, to a rule that checks values."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from waypost.checking.constraints import Matching, Named, Secret, Suggesting
from waypost.checking.names import as_name, is_name

__all__ = ["Rule", "rule_of"]

_LARGEST = sys.float_info.max
_WHOLE = 1 << 63


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule for a value.

    Attributes:
        expected: The accepted values, in words.
        accepts: Returns whether a value is accepted.
        known: The accepted words, or the words that an accepted value may contain; for a suggestion.
        choices: The accepted words, as ``expected`` shows them.
        is_secret: Whether an error must not show the value.
        take: Converts an accepted value to the one to keep; ``None`` keeps it unchanged.
        suggest: Returns what was probably meant by a value that is not accepted; ``None`` looks among ``known``.
    """

    expected: str
    accepts: Callable[[object], bool]
    known: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    is_secret: bool = False
    take: Callable[[Any], Any] | None = None
    suggest: Callable[[object], str | None] | None = None


def _is_whole(value: object) -> bool:
    # A store keeps numbers of 64 bits.
    return isinstance(value, int) and not isinstance(value, bool) and -_WHOLE <= value < _WHOLE


def _is_finite(value: object) -> bool:
    # An int beyond the range of floats can be compared with a float, but not converted to one.
    return isinstance(value, int | float) and not isinstance(value, bool) and -_LARGEST <= value <= _LARGEST


_SIMPLE: dict[object, Rule] = {
    bool: Rule("True or False", lambda value: isinstance(value, bool)),
    int: Rule("a whole number", _is_whole),
    float: Rule("a number", _is_finite),
    str: Rule("text", lambda value: isinstance(value, str)),
    bytes: Rule("bytes", lambda value: isinstance(value, bytes)),
    NoneType: Rule("None", lambda value: value is None),
    Callable: Rule("a function", callable),
    PathLike: Rule("a path", lambda value: isinstance(value, PathLike)),
    Any: Rule("anything", lambda value: True),
}  # fmt: skip


def rule_of(hint: Any) -> Rule:
    """Return the rule for a type hint.

    Args:
        hint: The type of an option: simple types, classes, Protocols, `typing.Literal`, unions, functions, sequences
            and mappings of these, and each of them as `typing.Annotated` with constraints.

    Returns:
        The rule.
    """
    kind = get_origin(hint) or hint
    if rule := _SIMPLE.get(kind):
        return rule
    inner = get_args(hint)
    if kind is Annotated:
        return _constrained(rule_of(inner[0]), hint.__metadata__)
    if kind is Literal:
        choices = tuple(f'"{word}"' for word in inner)
        return Rule(_either(choices), lambda value: value in inner, inner, choices)
    if kind in (Union, UnionType):
        return _any_of([rule_of(one) for one in inner])
    if issubclass(kind, Mapping):
        return _mapping(*map(rule_of, inner))
    if issubclass(kind, Collection):
        return _items(kind, rule_of(inner[0]))
    return _protocol(kind) if getattr(kind, "_is_protocol", False) else _instance(kind)


def _constrained(rule: Rule, constraints: Sequence[Any]) -> Rule:
    for constraint in constraints:
        if isinstance(constraint, Secret):
            rule = replace(rule, is_secret=True)
            continue
        if isinstance(constraint, Suggesting):
            rule = replace(rule, suggest=constraint.suggest)
            continue
        if isinstance(constraint, Named):
            rule = Rule("text that is not empty", is_name, take=partial(as_name, "name"))
            continue
        words = constraint.expected if isinstance(constraint, Matching) else f"{rule.expected} {constraint.words}"
        rule = replace(rule, expected=words, choices=(), accepts=_both(rule.accepts, constraint.accepts))
    return rule


def _both(first: Callable[[object], bool], second: Callable[[Any], object]) -> Callable[[object], bool]:
    return lambda value: first(value) and bool(second(value))


def _any_of(rules: list[Rule]) -> Rule:
    return Rule(
        _either([words for rule in rules for words in rule.choices or (rule.expected,)]),
        lambda value: any(rule.accepts(value) for rule in rules),
        tuple(word for rule in rules for word in rule.known),
        tuple(word for rule in rules for word in rule.choices or (rule.expected,)),
        any(rule.is_secret for rule in rules),
        partial(_take_by, [rule for rule in rules if rule.take]) if any(rule.take for rule in rules) else None,
    )


def _take_by(rules: list[Rule], value: object) -> object:
    for rule in rules:
        if rule.take and rule.accepts(value):
            return rule.take(value)
    return value


def _items(kind: type[Collection[Any]], item: Rule) -> Rule:
    def accepts(value: object) -> bool:
        return (
            isinstance(value, kind) and not isinstance(value, str | bytes | Mapping) and all(map(item.accepts, value))
        )

    return Rule(f"a list of {item.expected}", accepts, item.known)


def _mapping(key: Rule, value: Rule) -> Rule:
    def accepts(given: object) -> bool:
        return isinstance(given, Mapping) and all(key.accepts(k) and value.accepts(v) for k, v in given.items())

    return Rule(f"a mapping of {key.expected} to {value.expected}", accepts)


def _protocol(kind: Any) -> Rule:
    names = [name for name, one in vars(kind).items() if callable(one) and _is_asked_for(name)]

    def accepts(value: object) -> bool:
        return not isinstance(value, type) and all(callable(getattr(value, name, None)) for name in names)

    return Rule(f"an object with the methods {', '.join(names)}, as waypost.{kind.__name__} has them", accepts)


def _is_asked_for(name: str) -> bool:
    return name == "__call__" or not name.startswith("_")


def _instance(kind: type) -> Rule:
    name = f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
    article = "an" if name[0] in "aeiou" else "a"
    return Rule(f"{article} {name}", kind.__instancecheck__)


def _either(words: Sequence[str]) -> str:
    last_none = sorted(dict.fromkeys(words), key="None".__eq__)
    return last_none[0] if len(last_none) == 1 else f"{', '.join(last_none[:-1])} or {last_none[-1]}"
