"""Writes of other programs to a namespace's journal, as the outbox of a store keeps them until they are done."""

from __future__ import annotations

from typing import Literal

import msgspec

from waypost.storage.following import Follower
from waypost.storage.journal_records import ExpiredSession

__all__ = ["EMIT_WINDOW_S", "OutsideWrite", "decode_write", "encode_write", "tell_follower"]

EMIT_WINDOW_S = 600.0
"""Seconds within which a second write of the same id is a repeat of the first one."""


class OutsideWrite(msgspec.Struct, frozen=True, array_like=True):
    """One write to a journal by a program that is no node.

    Attributes:
        kind: The change: an entry appended; rooms joined or left by matching sessions; these ended.
        journal: The journal's name. If there is no such journal, nobody is there, and nothing is done.
        rooms: Sessions in any of these rooms match; ``None`` for all. An entry names its recipients itself.
        except_: Sessions in any of these rooms do not match.
        moved: The rooms to join or leave.
        content: The entry's record; or the note of an end, see `Journal.end_matching`.
    """

    kind: Literal["emit", "join", "leave", "end"]
    journal: str
    rooms: tuple[str, ...] | None = None
    except_: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()
    content: bytes = b""


_DECODER = msgspec.msgpack.Decoder(OutsideWrite)


def encode_write(write: OutsideWrite) -> bytes:
    """Return a write as bytes for an outbox."""
    return msgspec.msgpack.encode(write)


def decode_write(encoded: bytes) -> OutsideWrite:
    """Bring a write back.

    Raises:
        msgspec.MsgspecError: The bytes are no write.
    """
    return _DECODER.decode(encoded)


def tell_follower(follower: Follower, write: OutsideWrite, position: int, ended: list[ExpiredSession]) -> None:
    """Tell the follower of a journal of a write that was done.

    Args:
        follower: The follower.
        write: The write.
        position: The position of the entry.
        ended: The sessions that were ended.
    """
    match write.kind:
        case "emit":
            follower.appended(position, write.content)
        case "join":
            follower.joined(write.rooms, write.except_, write.moved)
        case "leave":
            follower.left(write.rooms, write.except_, write.moved)
        case "end":
            follower.ended(write.rooms, write.except_, ended, write.content)
