"""The storage contract: what every backend guarantees, in words, and the records it takes and gives.

One store holds *journals* (one a namespace: the ordered log of what was emitted, with the sessions that
follow it), *queues* (durable logs of messages, with the consumers that work through them) and *answers* (what
clients were answered to what they may send again). It keeps bytes and never looks into them, and knows neither
sockets nor packets.

Guarantees of every backend
---------------------------
1. **One order.** All writes of a store take effect in the order in which they were asked for (the order in
   which the coroutines first ran). A write's ``on_commit`` is called in that same order, in the event loop's
   thread, once the write can no longer be lost, and before the coroutine that asked for it resumes. Nobody
   learns of a position before its entry is safe.
2. **All or nothing.** A write that raises has left nothing behind; its ``on_commit`` is never called, and the
   writes around it are not harmed. A disk that is full raises `StoreFull`; with space it works again.
3. **Dense positions.** A journal's positions, and a queue's, are 1, 2, 3… without a hole; a position is never
   given twice, not even after a crash or in another generation.
4. **Cancellation.** A cancelled write may still take effect; then its ``on_commit`` is still called. Reads
   may be cancelled at will.
5. **Crash.** What a durable store reported as committed is there after ``kill -9`` and after a power loss.

A backend that can't give one of these says so in its `Capabilities`; it does not pretend. One that is in a file
but not ``durable`` is **asynchronous**, and differs in this, and in nothing for queues but their order:

- A write to a journal is reported at once, and is on disk within 50 ms while the disk takes it. It waits only if
  there is no position for it yet, or too much waits for the disk; `StoreFull` tells if the disk is full as well.
- The order is one for all journals unless one has to wait, and one for each queue.
- A journal that was in use and not closed begins anew when it is opened: positions jump, never to be given twice,
  over all that may have been given; what stands before is trimmed; a new generation begins, without sessions.

Journals and queues belong to the opening of the store that made them: once it is closed, every method of
theirs raises `StoreClosed`, also when the store is opened again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from waypost.storage.answer_base import Answers
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import Configuration, Due, ExpiredConsumer, QueueRow

__all__ = [
    "ANSWER_TTL_S",
    "MAX_TOMBSTONES",
    "TOMBSTONE_S",
    "Capabilities",
    "Durability",
    "Entry",
    "ExpiredSession",
    "Journal",
    "Membership",
    "OnCommit",
    "Retention",
    "SessionRow",
    "Store",
]

Durability: TypeAlias = Literal["commit", "async"]
"""When a write to a journal is reported: when it is on disk, or at once."""

ANSWER_TTL_S = 7 * 24 * 3600.0
"""For how long answers are kept unless it is said otherwise, in seconds."""

TOMBSTONE_S = 24 * 3600.0
"""For how long after its time an expired session is still known as one, in seconds."""

MAX_TOMBSTONES = 100_000
"""How many expired sessions of a journal are still known as such; those that expired last are."""

OnCommit = Callable[[int], None]
"""Called in the loop's thread with the position a write took effect at. Must not raise and must not block."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a store promises.

    Attributes:
        durable: Whether all that was reported survives ``kill -9`` and a power loss.
        description: The store in words for a start-up line: what, where, and how durable.
    """

    durable: bool
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How much a journal keeps; whichever limit is reached first trims its oldest entries.

    Attributes:
        max_age_s: The age of the oldest entry, in seconds.
        max_entries: The number of entries.
        max_bytes: The size of their records together, in bytes.
    """

    max_age_s: float = 24 * 3600
    max_entries: int = 1_000_000
    max_bytes: int = 1 << 30


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a journal.

    Attributes:
        position: Where it stands, from 1.
        record: What was appended.
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
        """Tell whether the session was in the room when this entry was appended."""
        return self.since < position and (self.until is None or position <= self.until)


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session as the store keeps it while it lives and for a while after.

    Attributes:
        key: What it is found by; secret, so callers hand in a digest.
        sid: The socket's public id.
        start: The journal's top when it began: nothing up to there was ever meant for it.
        proven: The position up to which all has certainly arrived; at least ``start``.
        last: The position of the last entry up to there that was sent to it; ``start`` if there was none.
        data: The application's data, as it was last saved.
        expires_at: When its time ends, as wall time in seconds; ``None`` while it is attached.
        memberships: Its rooms, now and earlier; earlier ones may be dropped once the journal no longer
            reaches back to them.
        expired: Whether its time is over. It may be forgotten already, and only its tombstone be left: then there
            are neither data nor memberships, and ``start`` and ``proven`` are 0.
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


@dataclass(frozen=True, slots=True)
class ExpiredSession:
    """A session that was forgotten because its time had come.

    Attributes:
        journal: The name of its journal.
        sid: The socket's public id.
        data: The application's data, as it was last saved.
    """

    journal: str
    sid: str
    data: bytes


class Journal(Protocol):
    """The ordered log of one namespace, and the sessions that follow it. Made by `Store.journal`.

    A write for a session that is not stored (any more) does nothing but call its ``on_commit``; to know, find
    it afterwards.
    """

    @property
    def name(self) -> str:
        """The name it was asked for by."""
        ...

    @property
    def generation(self) -> str:
        """Names the journal's history since the store was opened: random letters and digits.

        Each opening begins another one. So a position of a history that was lost (an older copy of the file was put
        back, or another file) is recognised by a name that this file has never had, or by standing beyond where
        the one of that name ended.
        """
        ...

    @property
    def ends(self) -> Mapping[str, int]:
        """Where earlier generations of this history ended: the last position of each; at least the last 1,000."""
        ...

    @property
    def top(self) -> int:
        """The position of the last committed entry, 0 for none; moves just before its ``on_commit``."""
        ...

    @property
    def oldest(self) -> int:
        """The oldest position still kept; ``top + 1`` when none is."""
        ...

    @property
    def size_bytes(self) -> int:
        """The size of the records still kept together, in bytes; costs nothing to ask for."""
        ...

    async def append(self, record: bytes, on_commit: OnCommit) -> int:
        """Add an entry.

        Args:
            record: What to keep.
            on_commit: Called with the entry's position, in order of positions.

        Returns:
            The entry's position.
        """
        ...

    async def read(self, after: int, upto: int, *, max_entries: int, max_bytes: int) -> list[Entry]:
        """Read committed entries in order.

        Args:
            after: The position before the first one wanted.
            upto: The last position wanted; beyond ``top`` means ``top``.
            max_entries: The most entries to return, from 1.
            max_bytes: Stop before their records exceed this; the first one is always returned.

        Returns:
            The entries, empty only if there is none in ``(after, upto]``.

        Raises:
            PositionGone: Entry ``after + 1`` was trimmed.
        """
        ...

    async def open_session(self, key: bytes, sid: str, data: bytes, on_commit: OnCommit) -> int:
        """Store a new, attached session.

        Args:
            key: What it is found by, unique.
            sid: Its public id.
            data: The application's data.
            on_commit: Called with the session's start.

        Returns:
            The session's start: the journal's top in the order of writes.

        Raises:
            StorageError: The key is taken.
        """
        ...

    async def find_session(self, key: bytes) -> SessionRow | None:
        """Look up a session; one whose time is over is marked as ``expired``.

        It still is for `TOMBSTONE_S` after its time, among the last `MAX_TOMBSTONES`. Writes asked for earlier
        are seen.
        """
        ...

    async def attach_session(self, key: bytes, on_attach: Callable[[SessionRow], None]) -> SessionRow | None:
        """Mark a session as in use, so that it does not expire, and give it as it is at that point.

        Args:
            key: The session's key.
            on_attach: Called in the order of writes, with the session: what was written before is in it, and what
                is written after is reported after. Like an `OnCommit`, it must not raise and must not block.

        Returns:
            The session; ``None``, with ``on_attach`` not called, if it is unknown or its time is over.
        """
        ...

    async def detach_session(self, key: bytes, expires_at: float) -> None:
        """Mark a session as away; after ``expires_at`` (wall time, seconds) its time is over."""
        ...

    async def end_session(self, key: bytes) -> None:
        """Forget a session at once."""
        ...

    async def save_session(self, key: bytes, data: bytes) -> None:
        """Replace a session's data."""
        ...

    def prove(self, key: bytes, position: int, last: int) -> None:
        """Note that all up to a position has arrived; kept lazily, so a crash may forget the last notes.

        Never moves backwards. Returns at once.

        Args:
            key: The session's key.
            position: Up to where all has arrived.
            last: The position of the last entry up to there that was sent to it.
        """
        ...

    async def join(self, key: bytes, rooms: Collection[str], on_commit: OnCommit) -> None:
        """Let a session join rooms for all entries from here on; those it is in already are left as they are.

        ``on_commit`` is called with the position after which it counts.
        """
        ...

    async def leave(self, key: bytes, rooms: Collection[str], on_commit: OnCommit) -> None:
        """Let a session leave rooms for all entries from here on; those it is not in are ignored.

        ``on_commit`` is called with the last position that still counts.
        """
        ...

    async def join_matching(
        self, rooms: Collection[str] | None, except_: Collection[str], joined: Collection[str], on_commit: OnCommit
    ) -> None:
        """Let all sessions that match join rooms for all entries from here on, those that are away too.

        Args:
            rooms: Meant is every session, not expired, that is in any of these at this point of the order of
                writes, its own sid being a room that it is in; ``None`` for every session.
            except_: But none that is in any of these.
            joined: The rooms to join; for each session but its own sid.
            on_commit: Called with the position after which it counts.
        """
        ...

    async def leave_matching(
        self, rooms: Collection[str] | None, except_: Collection[str], left: Collection[str], on_commit: OnCommit
    ) -> None:
        """Let all sessions that match leave rooms for all entries from here on, those that are away too.

        Args:
            rooms: As for `join_matching`.
            except_: As for `join_matching`.
            left: The rooms to leave; for each session but its own sid.
            on_commit: Called with the last position that still counts.
        """
        ...


class Store(Protocol):
    """Journals, sessions, queues and answers of one server."""

    @property
    def capabilities(self) -> Capabilities:
        """What this store promises."""
        ...

    async def open(self) -> None:
        """Open it in the running event loop; sessions left attached by a crash are detached from now on.

        Raises:
            ConfigurationError: There can't be a store where it was asked for.
            StoreBusy: Another process owns it.
            StoreDamaged: It is no store of ours, or a broken one; it is left as it is.
        """
        ...

    async def close(self) -> None:
        """Finish what was asked for and let go. Closing twice is fine."""
        ...

    async def journal(self, name: str) -> Journal:
        """Return a namespace's journal, made if need be; the same one for the same name."""
        ...

    async def followed_journals(self) -> list[str]:
        """Return the names of the journals that have sessions, sorted.

        A session whose time is over counts until it is forgotten.
        """
        ...

    async def drop_journal(self, name: str) -> bool:
        """Forget a journal that nobody follows: its entries, its tombstones, and that it was there.

        Handles on it are of no more use. A journal of that name that is asked for later is another one, with a
        generation of its own.

        Returns:
            Whether it is gone; ``False`` if it has sessions, and is left as it is.
        """
        ...

    def queue(self, name: str) -> StoredQueue:
        """Return a handle on a queue, whether it exists or not."""
        ...

    def answers(self) -> Answers:
        """Return a handle on what clients were answered."""
        ...

    async def queues(self, *, after: str = "", max_queues: int = 1000, idle: bool = True) -> list[QueueRow]:
        """Return the states of queues whose names come after one, by name (in the order of their UTF-8).

        Without ``idle`` those are left out that keep no message and no dead letter.
        """
        ...

    async def configurations(self) -> list[Configuration]:
        """Return what was configured, of every queue where something was."""
        ...

    async def release_due(self) -> Due:
        """Give their positions to messages that have become due, and to what was published from outside.

        Call it when `watch` says so, and when a message that this, `enqueue` or `redrive` named falls due.
        """
        ...

    def watch(self, changed: Callable[[], None]) -> None:
        """Have something called in the loop's thread when another program has written to the store.

        `release_due` then says to which queues. It is called soon after the write, for as long as the store is open.
        """
        ...

    async def expire_consumers(self, idle_s: float, attached: Collection[tuple[str, str]]) -> list[ExpiredConsumer]:
        """Remove consumers that nobody has used for a time.

        Args:
            idle_s: For how long, in seconds.
            attached: Queue and name of those that are in use all the same.

        Returns:
            Those that were removed. Each is told once at most.
        """
        ...

    async def expire_sessions(self) -> list[ExpiredSession]:
        """Forget detached sessions whose time is over, but for their tombstones.

        Returns:
            The sessions forgotten now. Each is told once at most: not if the process ends, or the caller is
            cancelled, before it is told.
        """
        ...

    async def trim(self) -> int:
        """Trim every journal to its retention; returns how many entries went since it was last called.

        Memberships that ended before a journal's oldest entry go too, and, of queues, messages that are too old or
        have outlived their time to live, dead letters that are too old, ids whose window has ended, and answers that
        are too old.
        """
        ...
