"""msgpack as npm's ``notepack.io`` writes it, which ``socket.io-msgpack-parser`` is made of."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from waypost.errors import EncodingFailed, MalformedPacket
from waypost.protocol.rich_json import as_builtins, without_huge_integers

__all__ = ["pack", "unpack"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_NOTEPACK = 0  # the type of undefined, of dates and of ArrayBuffers
_MARK = 5
_ARRAY_BUFFER = re.compile(rb"\xc7[\x01\x08]\x00")
_MAX_DEPTH = 512  # what Python can go through by recursion, whatever calls this
_NATIVE = (bytes, bytearray, memoryview, datetime)
_STANDARD_DATE = re.compile(rb"\xd6\xff|\xd7\xff|\xc7\x0c\xff")


def pack(what: str, value: object) -> bytes:
    """Encode a value as msgpack.

    Integers beyond 64 bits become floats, as in the JSON parser; dates with a time zone become JavaScript's.

    Args:
        what: The packet it is for, for the error.
        value: Whatever msgpack can carry.

    Returns:
        The bytes.

    Raises:
        EncodingFailed: It holds what msgpack can't carry.
    """
    try:
        plain = msgspec.to_builtins(value, str_keys=True, builtin_types=_NATIVE, enc_hook=as_builtins)
        try:
            packed = msgspec.msgpack.encode(plain)
        except OverflowError:
            packed = msgspec.msgpack.encode(without_huge_integers(plain))
        if _STANDARD_DATE.search(packed):
            # JavaScript's side does not know msgpack's own dates.
            packed = msgspec.msgpack.encode(_with_javascript_dates(without_huge_integers(plain)))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise EncodingFailed(what, str(error)) from error
    return packed


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
    """Decode msgpack from the other side of a connection.

    ``undefined`` becomes ``None``; a date becomes a `datetime.datetime` in UTC, or ``None`` if it has no such date.

    Args:
        packed: The bytes of one value.

    Returns:
        The value; all keys in it are text.

    Raises:
        MalformedPacket: It can't be read, is nested too deep, or holds what JavaScript does not know.
    """
    try:
        value = _unpack_array_buffers(packed) if _ARRAY_BUFFER.search(packed) else _decoder.decode(packed)
    except (ValueError, RecursionError) as error:
        raise MalformedPacket("a value in msgpack", packed) from error
    _check(value, packed)
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
    """Decode what may hold ``ArrayBuffer``s of one or eight bytes, which look like ``undefined`` and dates to a hook.

    They differ in their header only. So it is read twice: the first time with another type in such headers, to learn
    which of the extensions, in their order, they are. In the content of something else the change does no harm.
    """
    types: list[int] = []
    marked = _ARRAY_BUFFER.sub(lambda header: header[0][:2] + bytes((_MARK,)), packed)
    msgspec.msgpack.Decoder(ext_hook=lambda code, _data: types.append(code)).decode(marked)
    order = iter(types)

    def read(code: int, data: memoryview) -> Any:
        is_buffer = next(order) == _MARK and code == _NOTEPACK
        return bytes(data) if is_buffer else _read_extension(code, data)

    return msgspec.msgpack.Decoder(ext_hook=read).decode(packed)


def _check(value: Any, packed: bytes) -> None:
    """Look through a value level by level, for the other side chooses the depth."""
    level = [value]
    for _ in range(_MAX_DEPTH + 1):
        deeper: list[Any] = []
        members: Collection[Any]
        for container in level:
            if container.__class__ is dict:
                for key in container:
                    if key.__class__ is not str:
                        raise MalformedPacket("maps with text as keys", packed)
                members = container.values()
            elif container.__class__ is list:
                members = container
            else:
                continue
            deeper += [member for member in members if member.__class__ is dict or member.__class__ is list]
        if not deeper:
            return
        level = deeper
    raise MalformedPacket(f"a value at most {_MAX_DEPTH} levels deep", packed)
