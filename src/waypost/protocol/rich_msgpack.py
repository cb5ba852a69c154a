"""msgpack as npm's ``notepack.io`` encodes it, the library inside ``socket.io-msgpack-parser``."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

import msgspec

from waypost.errors import EncodingFailed, MalformedPacket
from waypost.protocol.misfits import place_of_misfit
from waypost.protocol.rich_json import JsonDefault, replacing, without_huge_integers

__all__ = ["pack", "unpack"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_NOTEPACK = 0  # the extension type of undefined, dates and ArrayBuffers
_MARK = 5
_ARRAY_BUFFER = re.compile(rb"\xc7[\x01\x08]\x00")
_MAX_DEPTH = 512  # well below Python's recursion limit, whatever the depth of the caller's stack
_TEXT_ONLY = frozenset({str})
_CONTAINERS: frozenset[type] = frozenset({list, tuple, dict})
_NATIVE = (bytes, bytearray, memoryview, datetime)
_FAILURES = (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError)
"""The errors of all versions of msgspec. Before 0.22 its own are no ValueErrors; a map as a key is a TypeError."""
_STANDARD_DATE = re.compile(rb"\xd6\xff|\xd7\xff|\xc7\x0c\xff")


def pack(
    what: str, value: object, default: JsonDefault | None = None, named: tuple[str, object] | None = None
) -> bytes:
    """Encode a value as msgpack.

    Integers beyond 64 bits become floats, as in the JSON codec. Dates with a time zone become JavaScript dates.

    Args:
        what: The packet in words, for the error.
        value: Any value that msgpack can carry.
        default: The application's function for values of other types.
        named: What the caller gave, with its name, for the place in the error; ``None`` for no place.

    Returns:
        The encoded value.

    Raises:
        EncodingFailed: msgpack can't carry a value in it.
    """
    hook = replacing(default)
    try:
        plain = msgspec.to_builtins(value, str_keys=True, builtin_types=_NATIVE, enc_hook=hook)
        try:
            packed = msgspec.msgpack.encode(plain)
        except OverflowError:
            packed = msgspec.msgpack.encode(without_huge_integers(plain))
        if _STANDARD_DATE.search(packed):
            # notepack.io does not know msgpack's standard dates.
            packed = msgspec.msgpack.encode(_with_javascript_dates(without_huge_integers(plain)))
    except _FAILURES as error:
        raise EncodingFailed(what, _problem(error, named, hook)) from error
    # A short value can't be so deep. One level is for the packet around it.
    if len(packed) >= _MAX_DEPTH and (fault := _find_fault(plain, _MAX_DEPTH - 1)) is not None:
        raise EncodingFailed(what, f"expected {fault}")
    return packed


def _problem(error: Exception, named: tuple[str, object] | None, hook: JsonDefault) -> str:
    def carries(value: object) -> bool:
        try:
            msgspec.msgpack.encode(msgspec.to_builtins(value, str_keys=True, builtin_types=_NATIVE, enc_hook=hook))
        except OverflowError:
            return True
        except _FAILURES:
            return False
        return True

    if named is None:
        return str(error)
    root, given = named
    place = place_of_misfit(given, root, carries)
    return str(error) if place == root else f"{place}: {error}"


def _with_javascript_dates(value: object) -> object:
    if isinstance(value, datetime) and value.tzinfo is not None:
        milliseconds = (value - _EPOCH) // _MILLISECOND
        return msgspec.msgpack.Ext(_NOTEPACK, milliseconds.to_bytes(8, "big", signed=True))
    if isinstance(value, dict):
        return {key: _with_javascript_dates(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_with_javascript_dates(member) for member in value]
    return value


def unpack(packed: bytes) -> Any:
    """Decode one msgpack value from the other side of a connection.

    ``undefined`` becomes ``None``. A date becomes a `datetime.datetime` in UTC, or ``None`` if Python has no such
    date.

    Args:
        packed: The encoded value.

    Returns:
        The value; all its keys are strings.

    Raises:
        MalformedPacket: The bytes are unreadable, nested too deep, or contain a type that JavaScript lacks.
    """
    try:
        value = _unpack_array_buffers(packed) if _ARRAY_BUFFER.search(packed) else _decoder.decode(packed)
    except _FAILURES as error:
        raise MalformedPacket("a value in msgpack", packed) from error
    fault = _find_fault(value, _MAX_DEPTH)
    if fault is not None:
        raise MalformedPacket(fault, packed)
    return value


def _read_extension(code: int, data: memoryview) -> Any:
    if code != _NOTEPACK:
        raise ValueError(code)
    content = bytes(data)
    if len(content) == 8:
        try:
            return _EPOCH + int.from_bytes(content, "big", signed=True) * _MILLISECOND
        except OverflowError:
            return None
    return None if content == b"\x00" else content


_decoder = msgspec.msgpack.Decoder(ext_hook=_read_extension)


def _unpack_array_buffers(packed: bytes) -> Any:
    """Decode a value that may contain ``ArrayBuffer`` objects of one or eight bytes.

    An extension hook can't tell them from ``undefined`` and dates: only their headers differ. So the bytes are
    decoded twice. The first pass changes the type in such headers, to learn which extensions, in order, are buffers.
    The change is harmless where the same bytes occur inside other content.
    """
    types: list[int] = []
    marked = _ARRAY_BUFFER.sub(lambda header: header[0][:2] + bytes((_MARK,)), packed)
    msgspec.msgpack.Decoder(ext_hook=lambda code, _data: types.append(code)).decode(marked)
    order = iter(types)

    def read(code: int, data: memoryview) -> Any:
        is_buffer = next(order) == _MARK and code == _NOTEPACK
        return bytes(data) if is_buffer else _read_extension(code, data)

    return msgspec.msgpack.Decoder(ext_hook=read).decode(packed)


def _find_fault(value: Any, max_depth: int) -> str | None:
    """Check depth and keys of a value level by level, without recursion, because the other side chooses the depth.

    Returns:
        What was expected instead, or ``None`` if the value is as it must be.
    """
    level: list[Any] = [value] if type(value) in _CONTAINERS else []
    for _ in range(max_depth):
        maps = [container for container in level if container.__class__ is dict]
        for each in maps:
            if not _TEXT_ONLY.issuperset(map(type, each)):
                return "maps with text as keys"
        lists = [container for container in level if container.__class__ is not dict]
        # A message of a megabyte may have a million containers. Most of those are empty: they need no look.
        level = [
            member
            for members in chain(lists, map(dict.values, maps))
            for member in members
            if member and type(member) in _CONTAINERS
        ]
        if not level:
            return None
    return f"a value at most {max_depth} levels deep"
