"""Constraints on the values of options, next to their types: ``lease_s: Annotated[float, Above(0)]``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Annotated, Any, Literal, TypeAlias

__all__ = [
    "SOME_TRANSPORTS",
    "Above",
    "AtLeast",
    "AtMost",
    "Count",
    "CountOrZero",
    "EventName",
    "FilePath",
    "Matching",
    "Named",
    "Positive",
    "PositiveOrZero",
    "Secret",
    "ServedPath",
    "Share",
    "Transport",
]


@dataclass(frozen=True, slots=True)
class Above:
    """A number above a bound.

    Attributes:
        bound: The bound, which is not allowed itself.
    """

    bound: float

    @property
    def words(self) -> str:
        """The constraint in words, for an error."""
        return f"above {self.bound}"

    def accepts(self, value: Any) -> bool:
        """Return whether a number satisfies the constraint."""
        return bool(value > self.bound)


@dataclass(frozen=True, slots=True)
class AtLeast:
    """A number from a bound.

    Attributes:
        bound: The smallest allowed value.
    """

    bound: float

    @property
    def words(self) -> str:
        """The constraint in words, for an error."""
        return f"from {self.bound}"

    def accepts(self, value: Any) -> bool:
        """Return whether a number satisfies the constraint."""
        return bool(value >= self.bound)


@dataclass(frozen=True, slots=True)
class AtMost:
    """A number up to a bound.

    Attributes:
        bound: The largest allowed value.
    """

    bound: float

    @property
    def words(self) -> str:
        """The constraint in words, for an error."""
        return f"to {self.bound}"

    def accepts(self, value: Any) -> bool:
        """Return whether a number satisfies the constraint."""
        return bool(value <= self.bound)


@dataclass(frozen=True, slots=True)
class Matching:
    """A value that a function accepts.

    Attributes:
        expected: The accepted values, in words; an error has this instead of the type.
        accepts: Returns a true value for an accepted value. It is called only with values of the right type.
    """

    expected: str
    accepts: Callable[[Any], object]


@dataclass(frozen=True, slots=True)
class Suggesting:
    """A value for which a function knows what was probably meant.

    Attributes:
        suggest: Returns the value as one writes it, for one that is not accepted; ``None`` if nothing is close.
    """

    suggest: Callable[[object], str | None]


@dataclass(frozen=True, slots=True)
class Named:
    """A name; a whole number becomes its decimal text. See `waypost.checking.names`."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A value that may contain a password or a token. An error has its type instead of the value."""


def _names_a_file(value: str | PathLike[str]) -> bool:
    path: object = fspath(value)
    return isinstance(path, str) and path != "" and "\0" not in path


def _has_each_once(values: Sequence[str]) -> bool:
    return 0 < len(values) == len(set(values))


def _starts_with_slash(path: str) -> bool:
    return path.startswith("/") and "," not in path


Positive: TypeAlias = Annotated[float, Above(0)]
"""A number above 0, such as a time in seconds."""

PositiveOrZero: TypeAlias = Annotated[float, AtLeast(0)]
"""A number from 0."""

Share: TypeAlias = Annotated[float, AtLeast(0), AtMost(1)]
"""A part of a whole, from 0 to 1."""

Count: TypeAlias = Annotated[int, AtLeast(1)]
"""A whole number from 1, such as a number of events or bytes."""

CountOrZero: TypeAlias = Annotated[int, AtLeast(0)]
"""A whole number from 0."""

FilePath: TypeAlias = Annotated[str | PathLike[str], Matching("the path of a file", _names_a_file)]
"""The path of a file, as text or as a `pathlib.Path`."""

ServedPath: TypeAlias = Annotated[str, Matching("text that starts with / and has no comma", _starts_with_slash)]
"""A path of a URL, or the name of a namespace."""

EventName: TypeAlias = Annotated[str, Matching("an event's name, as text", lambda name: True)]
"""The name of an event."""

Transport: TypeAlias = Literal["polling", "websocket"]
"""The name of a transport."""

SOME_TRANSPORTS = Matching('some of "polling", "websocket", each once', _has_each_once)
"""At least one transport, and none twice."""
