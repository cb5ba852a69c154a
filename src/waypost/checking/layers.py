"""Options that are given in several places: in code, in a file, in the environment, on the command line.

The places are layers. The value of the topmost layer that has an option is the option's value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, is_dataclass, replace
from types import MappingProxyType
from typing import Any, Generic, Literal, TypeAlias, TypeVar, get_args, get_type_hints

from waypost.checking.arguments import check
from waypost.checking.options import rules_of
from waypost.checking.reading import read_text, read_value
from waypost.checking.rules import Rule
from waypost.errors import ConfigurationError

__all__ = [
    "NOTHING_GIVEN",
    "Given",
    "GivenOptions",
    "Layered",
    "Place",
    "given_around",
    "giving",
    "layered",
    "names_of",
    "stacked",
]

T = TypeVar("T")

Place: TypeAlias = Literal["default", "code", "file", "environment", "command line"]
"""Where an option's value comes from."""


@dataclass(frozen=True, slots=True)
class Given:
    """A value that is given outside of the code.

    Attributes:
        value: The text, or the value of a TOML file.
        place: Where it is given.
        shown: What is called so there: ``WAYPOST_DRAIN_S``, ``--port``, ``waypost.toml: drain_s``.
    """

    value: object
    place: Place
    shown: str

    @property
    def place_shown(self) -> str:
        """The place, with what is called so there."""
        return self.shown if self.place == "file" else f"{self.place}: {self.shown}"

    def read(self, rule: Rule) -> object:
        """Return the value of an option.

        Args:
            rule: The option's rule.

        Raises:
            ConfigurationError: The rule does not accept the value; the error has ``shown`` for the option.
        """
        value = read_value(self.value, rule) if self.place == "file" else read_text(str(self.value), rule)
        check(self.shown, value, rule)
        return value


GivenOptions: TypeAlias = Mapping[str, Given]
"""What is given for options, by their names; an option inside another one has both: ``recovery.session_ttl_s``."""

NOTHING_GIVEN: GivenOptions = MappingProxyType({})

_around: ContextVar[GivenOptions] = ContextVar("waypost_given_options", default=NOTHING_GIVEN)


@contextmanager
def giving(given: GivenOptions) -> Iterator[None]:
    """Let the servers that are made while the block runs take what is given outside of their code.

    Args:
        given: What is given.
    """
    token = _around.set(given)
    try:
        yield
    finally:
        _around.reset(token)


def given_around() -> GivenOptions:
    """Return what is given to the servers that are made here; see `giving`."""
    return _around.get()


def names_of(kind: type) -> Mapping[str, Rule]:
    """Return the rules of all options of a class, and of those inside them, by name.

    Args:
        kind: A class of options.
    """
    found: dict[str, Rule] = {}
    inner = _inner_kinds(kind)
    for name, rule in rules_of(kind).items():
        found[name] = rule
        if name in inner:
            found |= {f"{name}.{part}": one for part, one in rules_of(inner[name]).items()}
    return found


def stacked(layers: Iterable[GivenOptions]) -> GivenOptions:
    """Return what several layers give together.

    A layer that gives a whole option covers what those below give inside it, and the other way round.

    Args:
        layers: The layers, the lowest one first.

    Raises:
        ConfigurationError: One layer gives an option, and options inside it.
    """
    result: dict[str, Given] = {}
    for layer in layers:
        for name, one in layer.items():
            whole = name.partition(".")[0]
            if whole != name and whole in layer:
                expected = f"no value for {layer[whole].shown} beside it"
                raise ConfigurationError(one.shown, one.value, expected)
        result = {name: one for name, one in result.items() if not _is_covered(name, layer)} | dict(layer)
    return result


def _is_covered(name: str, layer: GivenOptions) -> bool:
    whole, dot, _ = name.partition(".")
    return whole in layer if dot else any(one.partition(".")[0] == name for one in layer)


@dataclass(frozen=True, slots=True)
class Layered(Generic[T]):
    """Options, and where they come from.

    Attributes:
        options: The options.
        code: The names of those that the code gives.
        given: What was given outside of the code.
    """

    options: T
    code: frozenset[str]
    given: GivenOptions

    def places(self) -> Mapping[str, tuple[Any, str]]:
        """Return for each option its value, and its place: that of `Place`, with the name it has there."""
        kind: Any = type(self.options)
        inner = _inner_kinds(kind)
        found: dict[str, tuple[Any, str]] = {}
        for name in rules_of(kind):
            value = getattr(self.options, name)
            place = self._place(name, name in self.code)
            if name in inner and isinstance(value, inner[name]):
                plain = inner[name]()
                for part in rules_of(inner[name]):
                    detail = getattr(value, part)
                    is_coded = detail != getattr(plain, part)
                    is_whole = name in self.given
                    found[f"{name}.{part}"] = detail, place if is_whole else self._place(f"{name}.{part}", is_coded)
            else:
                found[name] = value, place
        return found

    def _place(self, name: str, is_coded: bool) -> str:
        if one := self.given.get(name):
            return one.place_shown
        return "code" if is_coded else "default"


def layered(kind: type[T], code: Mapping[str, Any], given: GivenOptions = NOTHING_GIVEN) -> Layered[T]:
    """Make options of what the code gives, and of what is given above it.

    Args:
        kind: The class of the options.
        code: The options that the code gives.
        given: What is given outside of the code. Names that are not the options' own are left alone.

    Raises:
        ConfigurationError: An option is unknown, or has a value that it does not accept. The error of an option that
            is given outside of the code names the place.
    """
    if not given:
        return Layered(kind(**code), frozenset(code), given)
    inner = _inner_kinds(kind)
    values: dict[str, Any] = dict(code)
    for name, rule in rules_of(kind).items():
        if name in given:
            values[name] = given[name].read(rule)
    try:
        for name, part in inner.items():
            details = {
                field: given[f"{name}.{field}"].read(rule)
                for field, rule in rules_of(part).items()
                if f"{name}.{field}" in given
            }
            if details:
                base = values.get(name, _default(kind, name))
                values[name] = replace(base if isinstance(base, part) else part(), **details)
        return Layered(kind(**values), frozenset(code), given)
    except ConfigurationError as error:
        if (one := given.get(error.option)) is None:
            raise
        raise ConfigurationError(one.shown, error.value, error.expected, suggestion=error.suggestion) from error


def _default(kind: Any, name: str) -> object:
    return getattr(kind(), name)


def _inner_kinds(kind: type) -> Mapping[str, type[Any]]:
    """Return the classes of the options that have options inside them."""
    found: dict[str, type[Any]] = {}
    for name, hint in get_type_hints(kind).items():
        for one in (hint, *get_args(hint)):
            if isinstance(one, type) and is_dataclass(one):
                found[name] = one
    return found
