"""The target of an event, and the journal record that contains both."""

from __future__ import annotations

from typing import NamedTuple

import orjson

from waypost.errors import EncodingFailed, MalformedPacket
from waypost.protocol.codec import Codec, EncodedEvent

__all__ = ["EVERYONE", "Head", "Target", "read_head", "read_record", "write_record"]

_LENGTH_BYTES = 4


class Target(NamedTuple):
    """The recipients of an event.

    Attributes:
        rooms: Members of any of these rooms; ``None`` for all members of the namespace.
        except_: Members of these rooms are left out.
    """

    rooms: frozenset[str] | None = None
    except_: frozenset[str] = frozenset()


EVERYONE = Target()


class Head(NamedTuple):
    """The first part of a journal record: whom it is for, without the event.

    Attributes:
        target: The recipients.
        compress: Whether transports may compress the packets.
        end: Where in the record the event begins.
    """

    target: Target
    compress: bool
    end: int


def write_record(target: Target, event: EncodedEvent, *, compress: bool = True) -> bytes:
    """Encode an event and its target as a journal record.

    Args:
        target: The recipients.
        event: The event.
        compress: Whether transports may compress the packets; for the other nodes of a cluster.
    """
    rooms, except_ = target
    if rooms is None and not except_ and compress:
        head = b""
    else:
        parts = [None if rooms is None else sorted(rooms), sorted(except_)]
        head = orjson.dumps(parts if compress else [*parts, 0])
    return b"".join((len(head).to_bytes(_LENGTH_BYTES, "big"), head, event.to_record()))


def read_head(record: bytes) -> Head:
    """Decode the first part of a journal record of `write_record`.

    Raises:
        MalformedPacket: The bytes are not a record.
    """
    end = _LENGTH_BYTES + int.from_bytes(record[:_LENGTH_BYTES], "big")
    if end == _LENGTH_BYTES:
        return Head(EVERYONE, True, end)
    try:
        rooms, except_, *rest = orjson.loads(record[_LENGTH_BYTES:end])
        target = Target(None if rooms is None else frozenset(rooms), frozenset(except_))
    except (ValueError, TypeError) as error:
        raise MalformedPacket("the record of an event", record) from error
    return Head(target, rest != [0], end)


def read_record(record: bytes, namespace: str, codec: Codec) -> tuple[Target, EncodedEvent | EncodingFailed]:
    """Decode a journal record of `write_record`.

    Returns:
        The target, and the event; an error instead of it if no packet of this codec can carry it.

    Raises:
        MalformedPacket: The bytes are not a record.
    """
    target, _, end = read_head(record)
    try:
        return target, codec.restore_event(record[end:], namespace)
    except EncodingFailed as problem:
        return target, problem
