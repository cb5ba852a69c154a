"""JSON for packets: binary values become placeholders, and numbers keep what JavaScript can keep of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any, TypeAlias

import msgspec
import orjson

from waypost.errors import EncodingFailed, MalformedPacket
from waypost.protocol.misfits import place_of_misfit

__all__ = ["JsonDefault", "as_builtins", "encode_rich", "find_placeholders", "replacing", "without_huge_integers"]

JsonDefault: TypeAlias = Callable[[Any], Any]
"""A function that the application gives: it returns what stands for a value of another type, or raises TypeError."""

_HINT = "json_default can replace it by one that JSON can carry"


def encode_rich(
    what: str, data: object, default: JsonDefault | None = None, named: tuple[str, object] | None = None
) -> tuple[bytes, tuple[bytes, ...]]:
    """Encode a value with binary values, keys of other types than string, or huge integers.

    Args:
        what: The packet in words, for the error.
        data: The value.
        default: The application's function for values of other types.
        named: What the caller gave, with its name, for the place in the error; ``None`` for ``data``, the payload.

    Returns:
        JSON with a placeholder for each binary value, and the binary values in order.

    Raises:
        EncodingFailed: JSON can't carry a value in it, or the receiver would mistake a value for a placeholder.
    """
    # The receiver would mistake data that looks like a placeholder for one. With a number out of range in it, every
    # official client closes its connection; a client could attack others with it, as servers pass data on.
    attachments: list[bytes] = []
    plain = replacing(default)

    def replace(value: object) -> object:
        if isinstance(value, bytes | bytearray | memoryview):
            attachments.append(bytes(value))
            return {"_placeholder": True, "num": len(attachments) - 1}
        return without_huge_integers(plain(value))

    def carries(value: object) -> bool:
        try:
            options = orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS
            orjson.dumps(without_huge_integers(value), replace, options)
        except (TypeError, RecursionError):
            return False
        return True

    try:
        json = orjson.dumps(data, replace, orjson.OPT_NON_STR_KEYS)
    except TypeError:
        attachments.clear()
        try:
            options = orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS
            json = orjson.dumps(without_huge_integers(data), replace, options)
        except (TypeError, RecursionError) as error:
            raise EncodingFailed(what, _problem(error, named or ("payload", data), carries, default)) from error
    if attachments and json.count(b'"_placeholder":true') != len(attachments):
        raise EncodingFailed(what, "beside binary values, no other object may have a true _placeholder")
    return json, tuple(attachments)


def _problem(
    error: Exception,
    named: tuple[str, object],
    carries: Callable[[object], bool],
    default: JsonDefault | None,
) -> str:
    root, data = named
    place = place_of_misfit(data, root, carries)
    hint = f"; {_HINT}" if default is None and isinstance(error, TypeError) else ""
    return f"{place}: {error}{hint}" if place != root else f"{error}{hint}"


def replacing(default: JsonDefault | None) -> JsonDefault:
    """Return a function that replaces a value of another type: as `as_builtins` does, or else as ``default`` says."""
    if default is None:
        return as_builtins
    own = default

    def replace(value: object) -> object:
        try:
            return as_builtins(value, replace)
        except NoBuiltin:
            pass
        try:
            return own(value)
        except TypeError:
            raise
        except Exception as error:
            raise TypeError(f"json_default raised {type(error).__name__}: {error}") from error

    return replace


class NoBuiltin(TypeError):
    """A value is no dataclass, `msgspec.Struct` or pydantic model."""


def as_builtins(value: object, replace: JsonDefault | None = None) -> object:
    """Convert a dataclass, a `msgspec.Struct` or a pydantic model to dicts, lists and other built-in types.

    Args:
        value: The value.
        replace: Called with members of other types; ``None`` for this function itself.

    Raises:
        NoBuiltin: The value is none of these.
        TypeError: A member of it can't be converted.
    """
    if isinstance(value, msgspec.Struct) or (is_dataclass(value) and not isinstance(value, type)):
        return msgspec.to_builtins(
            value, builtin_types=(bytes, bytearray, memoryview), enc_hook=replace or as_builtins
        )
    dump = getattr(value, "model_dump", None)  # a pydantic model's method; pydantic may not be installed
    if callable(dump) and not isinstance(value, type):
        plain: object = dump()
        return plain
    raise NoBuiltin(f"a value of type {type(value).__name__}")


def without_huge_integers(value: object) -> object:
    """Copy a value without integers beyond 64 bits.

    Each becomes the float that JavaScript makes of it, or ``None`` beyond a float's range.
    """
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        try:
            return float(value)
        except OverflowError:
            return None
    if isinstance(value, dict):
        return {key: without_huge_integers(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [without_huge_integers(member) for member in value]
    return value


def find_placeholders(data: Any, count: int, message: object) -> list[tuple[Any, Any, int]]:
    """Find the places of attachments in decoded JSON.

    Args:
        data: The decoded JSON: a dict or a list.
        count: The number of attachments.
        message: The packet's text, for the error.

    Returns:
        For each place: the container, the key or index in it, and the attachment's number.

    Raises:
        MalformedPacket: A placeholder has a number without an attachment.
    """
    # A loop instead of recursion, because the other side chooses the depth.
    places = []
    containers = [data]
    while containers:
        container = containers.pop()
        members = container.items() if isinstance(container, dict) else enumerate(container)
        for key, member in members:
            if isinstance(member, dict) and member.get("_placeholder") is True:
                number = member.get("num")
                if type(number) is not int or not 0 <= number < count:
                    raise MalformedPacket(f"placeholders numbered below {count}", message)
                places.append((container, key, number))
            elif isinstance(member, dict | list):
                containers.append(member)
    return places
