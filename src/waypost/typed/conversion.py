"""Converts received values to types: a handler's arguments, and the answers of calls."""

from __future__ import annotations

import typing
from typing import Any

import msgspec

from waypost.errors import ConfigurationError

__all__ = ["CONVERTIBLE", "MISFITS", "check_convertible", "convert", "show"]

CONVERTIBLE = "dataclasses, msgspec.Structs, pydantic models, TypedDicts, or builtin types of these"
"""The types that values are converted to, in words."""

MISFITS = (msgspec.ValidationError, RecursionError)
"""The exceptions that `convert` raises for a value that does not fit."""

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
        said = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in problems()]
        raise ValueError("; ".join(said)) from error


def show(annotation: Any) -> str:
    """Return a type's name for an error."""
    return (
        annotation.__name__ if isinstance(annotation, type) and not typing.get_args(annotation) else str(annotation)
    )
