"""Converts received values to types: a handler's arguments, and the answers of calls."""

from __future__ import annotations

import re
import typing
from typing import Any

import msgspec

from waypost.errors import ConfigurationError

__all__ = ["CONVERTIBLE", "MISFITS", "check_convertible", "convert", "fault_of", "show"]

CONVERTIBLE = "dataclasses, msgspec.Structs, pydantic models, TypedDicts, or builtin types of these"
"""The types that values are converted to, in words."""

MISFITS = (msgspec.ValidationError, RecursionError)
"""The exceptions that `convert` raises for a value that does not fit."""

_QUOTED = re.compile(r"^(Invalid (?:enum )?value) .*?(?=$| - at `)", re.DOTALL)
"""The only sentences of msgspec that quote the value."""
_PLACE = re.compile(r" - at `[^`]*`$")

_NATIVE = (bytes, bytearray, memoryview)
"""Types that pass unchanged. msgspec would otherwise decode text as bytes in base64."""


def check_convertible(option: str, annotation: Any) -> None:
    """Check that values can be converted to a type.

    Args:
        option: The option or parameter with the type, for the error.
        annotation: The type.

    Raises:
        ConfigurationError: No value can be converted to the type.
    """
    try:
        described = msgspec.inspect.type_info(annotation)
    except (NameError, TypeError) as error:
        raise ConfigurationError(option, annotation, f"{CONVERTIBLE} ({error})") from error
    unknown = _unknown_type(described)
    if unknown is not None:
        raise ConfigurationError(option, unknown, CONVERTIBLE)


def convert(value: Any, annotation: Any) -> Any:
    """Convert a value to a type that `check_convertible` has accepted.

    Raises:
        MISFITS: The value does not fit the type.
    """
    return msgspec.convert(value, annotation, builtin_types=_NATIVE, dec_hook=_validate)


def fault_of(error: Exception) -> str:
    """Return the reason why a value does not fit, with types and names only.

    Args:
        error: What `convert` raised.

    Returns:
        The sentence, without the value. What an application's own check said may quote it, so only the kind of its
        exception is left of it, and where in the value it is.
    """
    if isinstance(error, RecursionError):
        return "nested too deeply"
    text = str(error)
    cause = error.__cause__
    if cause is None:
        return _QUOTED.sub(r"\1", text)
    place = _PLACE.search(text)
    said = cause.fault if isinstance(cause, _InvalidModel) else type(cause).__name__
    return said + (place[0] if place else "")


class _InvalidModel(ValueError):
    """A pydantic model can't be built.

    Attributes:
        fault: The members that do not fit, each with pydantic's name for the problem.
    """

    def __init__(self, said: str, fault: str) -> None:
        super().__init__(said)
        self.fault = fault


def _unknown_type(described: msgspec.inspect.Type) -> type | None:
    """Return a type to which no value can be converted, or ``None``."""
    # A loop instead of recursion, because a type may contain itself.
    waiting: list[Any] = [described]
    seen: set[int] = set()
    while waiting:
        node = waiting.pop()
        if isinstance(node, tuple):
            waiting.extend(node)
        elif isinstance(node, msgspec.inspect.CustomType):
            if not hasattr(node.cls, "model_validate"):
                return node.cls
        elif isinstance(node, msgspec.inspect.Type | msgspec.inspect.Field) and id(node) not in seen:
            seen.add(id(node))
            waiting.extend(getattr(node, name) for name in node.__struct_fields__ if name != "default")
    return None


def _validate(model: type, value: Any) -> Any:
    """Build a pydantic model without importing pydantic, which may not be installed."""
    try:
        return model.model_validate(value)  # type: ignore[attr-defined]  # `_unknown_type` found this method
    except ValueError as error:
        problems = getattr(error, "errors", None)
        if problems is None:
            raise
        found = [(".".join(map(str, problem["loc"])), problem["msg"], problem["type"]) for problem in problems()]
        said = "; ".join(f"{where}: {message}" for where, message, _ in found)
        raise _InvalidModel(said, "; ".join(f"{where}: {kind}" for where, _, kind in found)) from error


def show(annotation: Any) -> str:
    """Return a type's name for an error."""
    return (
        annotation.__name__ if isinstance(annotation, type) and not typing.get_args(annotation) else str(annotation)
    )
