"""Whom an event is for, and the record of a journal that keeps both."""

from __future__ import annotations

from typing import NamedTuple

import orjson

from waypost.protocol.codec import Codec, EncodedEvent

__all__ = ["EVERYONE", "Target", "read_record", "write_record"]

_LENGTH_BYTES = 4


class Target(NamedTuple):
    """Whom an event is for.

    Attributes:
        rooms: Members of any of these; ``None`` for all in the namespace.
        except_: But of none of these.
    """

    rooms: frozenset[str] | None = None
    except_: frozenset[str] = frozenset()


EVERYONE = Target()


def write_record(target: Target, event: EncodedEvent) -> bytes:
    """Make a journal record of an event and whom it is for."""
    rooms = None if target.rooms is None else sorted(target.rooms)
    head = b"" if rooms is None and not target.except_ else orjson.dumps([rooms, sorted(target.except_)])
    return b"".join((len(head).to_bytes(_LENGTH_BYTES, "big"), head, event.to_record()))


def read_record(record: bytes, namespace: str, codec: Codec) -> tuple[Target, EncodedEvent]:
    """Read what `write_record` made."""
    end = _LENGTH_BYTES + int.from_bytes(record[:_LENGTH_BYTES], "big")
    return _read_target(record[_LENGTH_BYTES:end]), codec.restore_event(record[end:], namespace)


def _read_target(head: bytes) -> Target:
    if not head:
        return EVERYONE
    rooms, except_ = orjson.loads(head)
    return Target(None if rooms is None else frozenset(rooms), frozenset(except_))
