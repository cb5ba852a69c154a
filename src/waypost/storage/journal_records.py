"""The records of a journal, of its sessions, and what a store says of itself."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "Capabilities",
    "Entry",
    "ExpiredSession",
    "Membership",
    "Retention",
    "SessionRow",
]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The guarantees of a store.

    Attributes:
        durable: Whether everything that was reported survives ``kill -9`` and a power loss.
        description: The store in words for a start-up line: its kind, its place, its durability.
    """

    durable: bool
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """The limits of a journal. The first limit that is reached trims the oldest entries.

    Attributes:
        max_age_s: The largest age of an entry, in seconds.
        max_entries: The largest number of entries.
        max_bytes: The largest size of their records together, in bytes.
    """

    max_age_s: float = 24 * 3600
    max_entries: int = 1_000_000
    max_bytes: int = 1 << 30


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a journal.

    Attributes:
        position: The entry's position, from 1.
        record: The appended record.
    """

    position: int
    record: bytes


@dataclass(frozen=True, slots=True)
class Membership:
    """A session was in a room for the entries after ``since``, up to and with ``until``.

    Attributes:
        room: The room's name.
        since: The journal's top when it joined.
        until: The journal's top when it left, or ``None`` while it is in.
    """

    room: str
    since: int
    until: int | None = None

    def covers(self, position: int) -> bool:
        """Return whether the session was in the room when the entry at this position was appended."""
        return self.since < position and (self.until is None or position <= self.until)


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A stored session, during its life and for a while after it.

    Attributes:
        key: The session's key; secret, so callers pass a digest.
        sid: The socket's public id.
        start: The journal's top when the session began; no entry up to it was for the session.
        proven: The position up to which all entries have certainly arrived; at least ``start``.
        last: The position of the last entry up to ``proven`` that was sent to the client; ``start`` without one.
        data: The application's data, as it was last saved.
        expires_at: The store's time at which the session ends, in seconds; ``None`` while it is attached.
        memberships: The rooms of now and earlier. Earlier ones may be dropped once the journal has no older entries.
        expired: Whether the session has ended. Only its tombstone may be left then: without data and memberships, and
            with 0 as ``start`` and ``proven``.
        damaged: Whether the stored session is not what was stored. It can't be attached any more.
        stuck_at: The position of an event beyond which the client did not get; see `Journal.note_stuck`.
        stuck_times: On how many connections; 0 for none.
    """

    key: bytes
    sid: str
    start: int
    proven: int
    last: int
    data: bytes
    expires_at: float | None
    memberships: tuple[Membership, ...]
    expired: bool = False
    damaged: bool = False
    stuck_at: int = 0
    stuck_times: int = 0


@dataclass(frozen=True, slots=True)
class ExpiredSession:
    """A session that was removed because its time was over.

    Attributes:
        journal: The name of its journal.
        sid: The socket's public id.
        data: The application's data, as it was last saved; empty if it is damaged.
    """

    journal: str
    sid: str
    data: bytes
