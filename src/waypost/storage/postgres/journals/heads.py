"""The heads of the log's rows that concern sessions; sql/40_sessions.sql writes them, as JSON."""

from __future__ import annotations

from enum import IntEnum

import msgspec

__all__ = [
    "Claim",
    "Ended",
    "Moved",
    "Released",
    "SessionRowKind",
    "read_claim",
    "read_ended",
    "read_moved",
    "read_released",
]


class SessionRowKind(IntEnum):
    """The kinds of rows."""

    JOINED = 2
    LEFT = 3
    ENDED = 4
    CLAIM = 5
    RELEASED = 6


class Moved(msgspec.Struct, frozen=True):
    """All matching sessions joined or left rooms. Names are encoded by `operations.names_of`."""

    rooms: list[str] | None
    except_: list[str] = msgspec.field(name="except")
    moved: list[str]


class Ended(msgspec.Struct, frozen=True):
    """All matching sessions have ended.

    Attributes:
        homes: The sid and data of each session, by the number of its home, the writer's left out.
        claimed: The keys of those that a node has claimed.
        lost: The keys of those whose home was declared dead, each with that node's number.
    """

    rooms: list[str] | None
    except_: list[str] = msgspec.field(name="except")
    note: str
    homes: dict[str, list[tuple[str, str]]]
    claimed: list[str]
    lost: list[tuple[str, int]] | None = None


class Claim(msgspec.Struct, frozen=True):
    """A node has claimed a session.

    Attributes:
        key: The session's key.
        claimer: The node's number.
        asked: The number of the node that is to end its life of the session, or was thought to be dead.
    """

    key: str
    claimer: int
    asked: int | None


class Released(msgspec.Struct, frozen=True):
    """Claims of sessions wait no longer.

    Attributes:
        released: The sessions' keys, and what was handed over with each.
        lost: The keys of those that are gone although their home, thought to be dead, may have a life of them; each
            with that node's number.
    """

    released: list[tuple[str, str]] | None = None
    lost: list[tuple[str, int]] | None = None


read_moved = msgspec.json.Decoder(Moved).decode
read_ended = msgspec.json.Decoder(Ended).decode
read_claim = msgspec.json.Decoder(Claim).decode
read_released = msgspec.json.Decoder(Released).decode
