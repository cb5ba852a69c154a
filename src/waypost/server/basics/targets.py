"""The target of an event, and the journal record that contains both."""

from __future__ import annotations

from typing import NamedTuple

import orjson

from waypost.errors import EncodingFailed, MalformedPacket
from waypost.protocol.codec import Codec, EncodedEvent

__all__ = ["EVERYONE", "Target", "read_record", "write_record"]

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


def write_record(target: Target, event: EncodedEvent) -> bytes:
    """Encode an event and its target as a journal record."""
    rooms = None if target.rooms is None else sorted(target.rooms)
    head = b"" if rooms is None and not target.except_ else orjson.dumps([rooms, sorted(target.except_)])
    return b"".join((len(head).to_bytes(_LENGTH_BYTES, "big"), head, event.to_record()))


def read_record(record: bytes, namespace: str, codec: Codec) -> tuple[Target, EncodedEvent | EncodingFailed]:
    """Decode a journal record of `write_record`.

    Returns:
        The target, and the event; an error instead of it if no packet of this codec can carry it.

    Raises:
        MalformedPacket: The bytes are not a record.
    """
    end = _LENGTH_BYTES + int.from_bytes(record[:_LENGTH_BYTES], "big")
    try:
        target = _read_target(record[_LENGTH_BYTES:end])
    except (ValueError, TypeError) as error:
        raise MalformedPacket("the record of an event", record) from error
    try:
        return target, codec.restore_event(record[end:], namespace)
    except EncodingFailed as problem:
        return target, problem


def _read_target(head: bytes) -> Target:
    if not head:
        return EVERYONE
    rooms, except_ = orjson.loads(head)
    return Target(None if rooms is None else frozenset(rooms), frozenset(except_))
