"""Reads the annotations of a handler's parameters, and converts an event's arguments to them.

An annotation may be a dataclass, a `msgspec.Struct`, a pydantic model, a ``TypedDict``, an enum, a builtin type, or a
generic or union of these. An argument without an annotation, or with ``Any`` or ``object``, is passed unchanged.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

from waypost.errors import ArgumentMismatch, ConfigurationError
from waypost.typed.conversion import CONVERTIBLE, MISFITS, check_convertible, convert, fault_of, show

__all__ = ["Parameters", "read_parameters"]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True, slots=True)
class _Parameter:
    name: str
    annotation: Any

    def convert(self, number: int, value: Any) -> Any:
        try:
            return convert(value, self.annotation)
        except MISFITS as error:
            # Without its cause, which may quote the argument: a log of this error then contains no secret.
            raise ArgumentMismatch(
                number, self.name, show(self.annotation), value, str(error), fault=fault_of(error)
            ) from None


@dataclass(frozen=True, slots=True)
class Parameters:
    """The typed parameters of a handler.

    Attributes:
        positional: The parameters in order; ``None`` for a parameter without a type.
        rest: The ``*args`` parameter, if it has a type.
    """

    positional: tuple[_Parameter | None, ...]
    rest: _Parameter | None

    def convert(self, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """Convert an event's arguments to the types of the handler's parameters.

        Args:
            arguments: The arguments as they arrived; arguments beyond the parameters are not converted.

        Returns:
            The arguments for the handler.

        Raises:
            ArgumentMismatch: An argument does not fit its parameter's type.
        """
        converted = list(arguments)
        for number, value in enumerate(arguments):
            parameter = self.positional[number] if number < len(self.positional) else self.rest
            if parameter is not None:
                converted[number] = parameter.convert(number + 1, value)
        return tuple(converted)


def read_parameters(what: str, function: Callable[..., Any], leading: int) -> Parameters | None:
    """Read the annotations of a handler.

    Args:
        what: The event in words, for the error.
        function: The handler.
        leading: The number of parameters before those of the event.

    Returns:
        The typed parameters; ``None`` if no parameter has a type.

    Raises:
        ConfigurationError: The function's module does not know a name in an annotation, or no argument can be
            converted to the annotation.
    """
    scope = _scope(function)
    positional: list[_Parameter | None] = []
    rest: _Parameter | None = None
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in _POSITIONAL:
            typed = _read(what, parameter, scope) if len(positional) >= leading else None
            positional.append(typed)
        elif parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            rest = _read(what, parameter, scope)
    mine = tuple(positional[leading:])
    return Parameters(mine, rest) if rest is not None or any(mine) else None


def _scope(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the names that a function's annotations can use: the globals of its module."""
    inner: Any = inspect.unwrap(function)
    while isinstance(inner, partial):
        inner = inner.func
    if not inspect.isroutine(inner):
        inner = type(inner).__call__
    return dict(getattr(getattr(inner, "__func__", inner), "__globals__", {}))


def _read(what: str, parameter: inspect.Parameter, scope: dict[str, Any]) -> _Parameter | None:
    annotation = parameter.annotation
    if annotation is inspect.Parameter.empty:
        return None
    named = f"annotation of {parameter.name} in the handler of {what}"
    try:
        holder = SimpleNamespace(__annotations__={parameter.name: annotation})
        annotation = typing.get_type_hints(holder, scope, include_extras=True)[parameter.name]
    except (NameError, TypeError) as error:
        raise ConfigurationError(named, annotation, f"{CONVERTIBLE}, known in its module ({error})") from error
    if annotation in (Any, object):
        return None
    check_convertible(named, annotation)
    return _Parameter(parameter.name, annotation)
