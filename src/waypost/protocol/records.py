"""Events as the store keeps them. Every parser can read the records of every other parser."""

from __future__ import annotations

import struct
from itertools import accumulate, pairwise
from typing import Any

import orjson

from waypost.errors import MalformedPacket
from waypost.protocol.rich_json import find_placeholders
from waypost.protocol.rich_msgpack import unpack

__all__ = ["is_json", "is_msgpack", "read_json", "read_msgpack", "read_values", "write_json", "write_msgpack"]

# A record's first byte. Never change the meaning of a value: stores outlive versions.
_JSON = b"\x01"
_JSON_WITH_BINARY = b"\x02"
_MSGPACK = b"\x03"

_EXPECTED = "the record of an event"


def is_json(record: bytes) -> bool:
    """Return whether the JSON codec wrote a record."""
    return record[:1] in (_JSON, _JSON_WITH_BINARY)


def is_msgpack(record: bytes) -> bool:
    """Return whether the msgpack codec wrote a record."""
    return record.startswith(_MSGPACK)


def write_json(json: bytes, attachments: tuple[bytes, ...]) -> bytes:
    """Return the record of an event that JSON carries.

    Args:
        json: The event's name and arguments: an array with placeholders for binary values.
        attachments: The binary values, in the order of their placeholders.
    """
    if not attachments:
        return _JSON + json
    sizes = [len(json), *map(len, attachments)]
    header = struct.pack(f">I{len(sizes)}I", len(attachments), *sizes)
    return b"".join((_JSON_WITH_BINARY, header, json, *attachments))


def read_json(record: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """Split a record of `write_json` into JSON and binary values.

    Raises:
        MalformedPacket: The bytes are not such a record.
    """
    if record.startswith(_JSON):
        return record[1:], ()
    try:
        kind, count = struct.unpack_from(">cI", record)
        sizes = struct.unpack_from(f">{count + 1}I", record, 5)
    except struct.error as error:
        raise MalformedPacket(_EXPECTED, record) from error
    ends = list(accumulate(sizes, initial=5 + 4 * len(sizes)))
    if kind != _JSON_WITH_BINARY or ends[-1] != len(record):
        raise MalformedPacket(_EXPECTED, record)
    json, *attachments = (record[start:end] for start, end in pairwise(ends))
    return json, tuple(attachments)


def write_msgpack(array: bytes) -> bytes:
    """Return the record of an event, given its name and arguments as a msgpack array."""
    return _MSGPACK + array


def read_msgpack(record: bytes) -> bytes:
    """Return the msgpack array of a record of `write_msgpack`."""
    return record[1:]


def read_values(record: bytes) -> list[Any]:
    """Decode a record that any codec wrote.

    Returns:
        The event's name, then its arguments.

    Raises:
        MalformedPacket: The bytes are not a record.
    """
    values: Any
    if is_msgpack(record):
        values = unpack(read_msgpack(record))
    else:
        json, attachments = read_json(record)
        try:
            values = orjson.loads(json)
        except orjson.JSONDecodeError as error:
            raise MalformedPacket(_EXPECTED, record) from error
        places = find_placeholders(values, len(attachments), record) if attachments else []
        for container, key, number in places:
            container[key] = attachments[number]
    if not (isinstance(values, list) and values and isinstance(values[0], str)):
        raise MalformedPacket(_EXPECTED, record)
    return values
