"""Calls of methods whose arguments and results are plain values; their encoding follows from their annotations."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, get_origin, get_type_hints

import msgspec

from waypost.storage.answer_base import Answers
from waypost.storage.base import Journal, Store
from waypost.storage.queue_base import StoredQueue
from waypost.storage.wire.frames import encode

__all__ = ["ANSWERS", "JOURNAL", "QUEUE", "STORE", "PlainMethod"]


@dataclass(frozen=True, slots=True)
class PlainMethod:
    """How a method's arguments and result are encoded.

    Attributes:
        name: The method's name.
        parameters: The names of its parameters.
        keywords: Those of them that are passed by name.
    """

    name: str
    parameters: tuple[str, ...]
    keywords: frozenset[str]
    _collections: frozenset[int]
    _arguments: msgspec.msgpack.Decoder[tuple[Any, ...]]
    _result: msgspec.msgpack.Decoder[Any]

    def encode_arguments(self, arguments: Sequence[Any]) -> msgspec.Raw:
        """Encode the arguments in the order of the parameters."""
        return msgspec.Raw(encode([[*one] if at in self._collections else one for at, one in enumerate(arguments)]))

    def decode_arguments(self, arguments: msgspec.Raw) -> tuple[Any, ...]:
        """Decode the arguments, in the order of the parameters."""
        return self._arguments.decode(arguments)

    def call(self, target: object, arguments: msgspec.Raw) -> Any:
        """Call the method of an object; returns what is to be awaited."""
        return self.call_with(target, self.decode_arguments(arguments))

    def call_with(self, target: object, arguments: Sequence[Any]) -> Any:
        """Call the method with decoded arguments, in the order of the parameters."""
        values = dict(zip(self.parameters, arguments, strict=True))
        named = {name: values.pop(name) for name in self.keywords}
        return getattr(target, self.name)(*values.values(), **named)

    def decode_result(self, result: msgspec.Raw) -> Any:
        """Decode the result."""
        return self._result.decode(result)


def _plain_method(name: str, function: Callable[..., Any]) -> PlainMethod:
    hints = get_type_hints(function)
    result = hints.pop("return")
    parameters = [one for one in inspect.signature(function).parameters.values() if one.name != "self"]
    types = [hints[one.name] for one in parameters]
    return PlainMethod(
        name,
        tuple(one.name for one in parameters),
        frozenset(one.name for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY),
        frozenset(at for at, hint in enumerate(types) if get_origin(hint) in (Collection, Sequence)),
        msgspec.msgpack.Decoder(tuple[tuple(types)] if types else tuple[()]),  # type: ignore[misc] # made at run time
        msgspec.msgpack.Decoder(result),
    )


def _plain_methods(protocol: type, *without: str) -> dict[str, PlainMethod]:
    """Return the plain ones of a protocol's methods: those that are awaited, but for some."""
    return {
        name: _plain_method(name, function)
        for name, function in vars(protocol).items()
        if inspect.iscoroutinefunction(function) and name not in without
    }


JOURNAL = {name: _plain_method(name, getattr(Journal, name)) for name in ("read", "find_session", "sessions")}
"""The plain methods of a `Journal` that change nothing."""

QUEUE = _plain_methods(StoredQueue)
"""The plain methods of a `StoredQueue`."""

ANSWERS = _plain_methods(Answers)
"""The plain methods of `Answers`."""

STORE = _plain_methods(Store, "open", "close", "journal")
"""The plain methods of a `Store`."""
