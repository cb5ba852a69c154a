"""The storage contract: the guarantees of every backend, in words.

One store holds *journals* (the ordered log of a namespace's events, with its sessions), *queues* (durable logs of
messages, with their consumers) and *answers* (the answers to messages that clients may send again). It keeps opaque
bytes, and knows neither sockets nor packets.

Guarantees of every backend
---------------------------
1. **One order.** All writes of a store take effect in the order in which they were asked for (the order in
   which the coroutines first ran). A write's ``on_commit`` is called in that same order, in the event loop's
   thread, once the write can no longer be lost, and before the coroutine that asked for it resumes. No position is
   reported before its entry is safe. Exception: on an engine that any number of nodes share (PostgreSQL) the order is
   one for each journal and one for each queue.
2. **All or nothing.** A write that raises has left nothing behind; its ``on_commit`` is never called, and the
   writes around it are not harmed. A disk that is full raises `StoreFull`; with space it works again.
3. **Dense positions.** A journal's positions, and a queue's, are 1, 2, 3… without a hole; a position is never
   given twice, not even after a crash or in another generation.
4. **Cancellation.** A cancelled write may still take effect; then its ``on_commit`` is still called. Reads
   may be cancelled at will.
5. **Crash.** A write that a durable store reported as committed survives ``kill -9`` and a power loss.

Times are those of the store's clock (`storage.clock`), in seconds: the *store's time*. Ends of pauses, and what
schedules note, are times of day.

A backend without one of these guarantees declares it in its `Capabilities`. A store in a file that is not ``durable``
is **asynchronous**. It differs in these points; of queues only the order differs:

- A write to a journal is reported at once, and is on disk within 50 ms while the disk takes it. It waits only if
  there is no position for it yet, or too much waits for the disk; `StoreFull` tells if the disk is full as well.
- The order is one for all journals unless one has to wait, and one for each queue.
- A journal that was in use and not closed begins anew at the next opening: positions jump over all that may have been
  assigned, so that none is used twice; the entries before are trimmed; a new generation begins, without sessions.

Journals and queues belong to the opening of the store that made them: once it is closed, every method of
theirs raises `StoreClosed`, also when the store is opened again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Literal, Protocol, TypeAlias

from waypost.errors import StoreLost
from waypost.storage.answer_base import Answers
from waypost.storage.clock import StoreClock
from waypost.storage.following import Follower, Nodes
from waypost.storage.journal_records import Capabilities, Entry, ExpiredSession, SessionRow
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import Configuration, Due, ExpiredConsumer, QueueRow
from waypost.storage.store_numbers import StoreCounts, StoreSize
from waypost.storage.trouble import Trouble

__all__ = [
    "ANSWER_TTL_S",
    "MAX_TOMBSTONES",
    "PATIENCE_S",
    "RESERVE_BYTES",
    "TOMBSTONE_S",
    "Durability",
    "Journal",
    "OnCommit",
    "Store",
]

Durability: TypeAlias = Literal["commit", "async"]
"""When a write to a journal is reported: when it is on disk, or at once."""

PATIENCE_S = 10.0
"""Seconds for which a write waits by default while another program holds the store's lock."""

RESERVE_BYTES = 16 << 20
"""The bytes that emits leave free on a store's disk by default."""

ANSWER_TTL_S = 7 * 24 * 3600.0
"""Seconds for which answers are kept by default."""

TOMBSTONE_S = 24 * 3600.0
"""For how long after its time an expired session is still known as one, in seconds."""

MAX_TOMBSTONES = 100_000
"""The most tombstones of a journal; those of the sessions that expired last stay."""

OnCommit = Callable[[int], None]
"""Called in the loop's thread with the position a write took effect at. Must not raise and must not block."""


class Journal(Protocol):
    """The ordered log of one namespace, and its sessions. Made by `Store.journal`.

    A write for a session that is not stored only calls its ``on_commit``; look the session up afterwards to find out.
    """

    @property
    def name(self) -> str:
        """The journal's name."""
        ...

    @property
    def generation(self) -> str:
        """The name of the journal's history since the store was opened: random letters and digits.

        Each opening starts a new one. So a position of a lost history (an older copy of the file was restored, or
        another file) is recognised: this file never had a history of that name, or that history ended before the
        position.
        """
        ...

    @property
    def ends(self) -> Mapping[str, int]:
        """The last position of each earlier generation; at least the last 1,000 generations."""
        ...

    @property
    def top(self) -> int:
        """The position of the last committed entry, 0 without one; changes right before its ``on_commit``."""
        ...

    @property
    def oldest(self) -> int:
        """The oldest position that is kept; ``top + 1`` without entries."""
        ...

    @property
    def size_bytes(self) -> int:
        """The size of the kept records together, in bytes; the call costs nothing."""
        ...

    async def append(self, record: bytes, on_commit: OnCommit) -> int:
        """Append an entry.

        Args:
            record: The record.
            on_commit: Called with the entry's position, in the order of positions.

        Returns:
            The entry's position.

        Raises:
            StorageError: The store did not take the entry.
        """
        ...

    async def read(self, after: int, upto: int, *, max_entries: int, max_bytes: int) -> list[Entry]:
        """Read committed entries in order. May be cancelled.

        Args:
            after: Only entries after this position.
            upto: The last position; beyond ``top`` it means ``top``.
            max_entries: The most entries to return, from 1.
            max_bytes: The most bytes of their records together; the first entry is returned in any case.

        Returns:
            The entries; empty only if there is none in ``(after, upto]``.

        Raises:
            PositionGone: Entry ``after + 1`` was trimmed.
            StoreDamaged: Entry ``after + 1`` is not what was appended, or can't be read.
        """
        ...

    async def open_session(self, key: bytes, sid: str, data: bytes, on_commit: OnCommit) -> int:
        """Store a new, attached session.

        Args:
            key: The session's unique key.
            sid: The socket's public id.
            data: The application's data.
            on_commit: Called with the session's start.

        Returns:
            The session's start: the journal's top in the order of writes.

        Raises:
            StorageError: The key is in use.
        """
        ...

    async def find_session(self, key: bytes) -> SessionRow | None:
        """Return a session, or ``None``. A session whose time is over is marked as ``expired``.

        It is found for `TOMBSTONE_S` after its time, among the last `MAX_TOMBSTONES`. The look-up sees all earlier
        writes of all nodes, and this node has applied their rows when it returns: a client that has seen an event of
        another node is never ahead of ``top``.
        """
        ...

    async def sessions(self, max_sessions: int) -> list[SessionRow]:
        """Return some of the journal's sessions, after all earlier writes; all, if it has no more than that.

        A session whose time is over is marked as ``expired``, or left out.
        """
        ...

    async def attach_session(self, key: bytes, on_attach: Callable[[SessionRow], None]) -> SessionRow | None:
        """Mark a session as attached, so that it does not expire.

        Args:
            key: The session's key.
            on_attach: Called in the order of writes, with the session. The session contains all earlier writes; later
                writes are reported later. As an `OnCommit`, it must not raise and must not block.

        Returns:
            The session; ``None``, without a call of ``on_attach``, if it is unknown or its time is over.

        Raises:
            ClaimVoid: Another node has claimed the session later than this one. Nothing was changed.
        """
        ...

    async def detach_session(self, key: bytes, expires_at: float) -> None:
        """Mark a session as detached; it ends at ``expires_at``, a time of the store's in seconds."""
        ...

    async def end_session(self, key: bytes) -> None:
        """Remove a session at once."""
        ...

    async def save_session(self, key: bytes, data: bytes) -> None:
        """Replace a session's data."""
        ...

    async def note_stuck(self, key: bytes, position: int, times: int) -> None:
        """Replace what a session notes of an event beyond which its client did not get.

        Args:
            key: The session's key.
            position: The event's position.
            times: On how many connections it was the first event that was sent.
        """
        ...

    def prove(self, key: bytes, position: int, last: int) -> None:
        """Note that all entries up to a position have arrived. Returns at once; a crash may lose the last notes.

        The position never moves backwards.

        Args:
            key: The session's key.
            position: The position.
            last: The position of the last entry up to it that was sent to the client.
        """
        ...

    async def join(self, key: bytes, rooms: Collection[str], on_commit: OnCommit) -> None:
        """Let a session join rooms for all later entries; rooms that it is in already are ignored.

        ``on_commit`` is called with the position after which the change applies.
        """
        ...

    async def leave(self, key: bytes, rooms: Collection[str], on_commit: OnCommit) -> None:
        """Let a session leave rooms for all later entries; other rooms are ignored.

        ``on_commit`` is called with the last position before the change.
        """
        ...

    async def join_matching(
        self, rooms: Collection[str] | None, except_: Collection[str], joined: Collection[str], on_commit: OnCommit
    ) -> None:
        """Let all matching sessions join rooms for all later entries, detached sessions too.

        Args:
            rooms: Sessions that are in any of these rooms at this point of the order of writes, and not expired; a
                session's sid is a room. ``None`` for all sessions.
            except_: Sessions in any of these rooms are left out.
            joined: The rooms to join, except a session's own sid.
            on_commit: Called with the position after which the change applies.
        """
        ...

    async def leave_matching(
        self, rooms: Collection[str] | None, except_: Collection[str], left: Collection[str], on_commit: OnCommit
    ) -> None:
        """Let all matching sessions leave rooms for all later entries, detached sessions too.

        Args:
            rooms: As for `join_matching`.
            except_: As for `join_matching`.
            left: The rooms to leave, except a session's own sid.
            on_commit: Called with the last position before the change.
        """
        ...

    async def end_matching(
        self,
        rooms: Collection[str] | None,
        except_: Collection[str],
        on_end: Callable[[Collection[ExpiredSession]], None],
        *,
        note: bytes = b"",
    ) -> None:
        """Remove all matching sessions at once, attached and detached ones.

        Args:
            rooms: As for `join_matching`.
            except_: As for `join_matching`.
            on_end: Called in the order of writes, with the removed sessions, but not with those whose home is another
                node; its `Follower` gets these. As an `OnCommit`, it must not raise and must not block.
            note: What followers are told beside it; opaque to the store.
        """
        ...

    # -- several nodes ---------------------------------------------------------------------------------------

    def follow(self, follower: Follower) -> None:
        """Set what applies the rows of other nodes, before anything is written."""
        ...

    async def claim_session(self, key: bytes) -> bytes:
        """Wait until no other node has a life of a session. May be cancelled.

        A session's *home* is the node that attached it last, also while its client is away. That node's `Follower` is
        told, and ends the session's life there; or it is dead. Without another node this returns at once. Afterwards
        this node calls `attach_session`, and is the home: from then on, writes of the earlier home for the session
        change nothing. It may attach the session without waiting to the end. Until it does, or is cancelled, or dies,
        the session does not expire. With other nodes, a claim comes before each attachment.

        Returns:
            What the earlier home handed over, by `release_session`; empty if there is nothing.

        Raises:
            ClaimVoid: A later claim for the session has come in the meantime.
        """
        ...

    async def release_session(self, key: bytes, handed: bytes) -> None:
        """Note that this node has no life of a session any more, after all earlier writes for it.

        Args:
            key: The session's key.
            handed: What the next claim gets, and each one after it until the session is attached; opaque to the
                store.
        """
        ...


class Store(Protocol):
    """Journals, sessions, queues and answers of one server."""

    @property
    def capabilities(self) -> Capabilities:
        """The guarantees of this store."""
        ...

    @property
    def clock(self) -> StoreClock:
        """The clock on which the store measures durations. It begins anew at each `open`."""
        ...

    @property
    def nodes(self) -> Nodes | None:
        """The other nodes on this store, while it is open; ``None`` for a store of one process."""
        ...

    async def open(self) -> None:
        """Open the store in the running event loop. Sessions that a crash left attached are detached.

        Raises:
            ConfigurationError: The store can't exist at that place.
            StoreBusy: Another process has it open.
            StoreDamaged: The file is not a Waypost store, or it is damaged. It was not changed.
        """
        ...

    async def close(self) -> None:
        """Finish the pending calls, and close the store. A second call does nothing."""
        ...

    async def journal(self, name: str) -> Journal:
        """Return a namespace's journal; if it does not exist, make it. The same object for the same name."""
        ...

    async def followed_journals(self) -> list[str]:
        """Return the names of the journals that have sessions, sorted.

        A session whose time is over counts until it is removed.
        """
        ...

    async def drop_journal(self, name: str) -> bool:
        """Remove a journal without sessions, with its entries and tombstones.

        Handles on it can't be used any more. A later journal of that name is a new one, with its own generation. With
        other nodes, this node has the journal no longer open, removed or not; the last node removes it.

        Returns:
            Whether the journal is removed; ``False`` if it has sessions, or if another node has it open. Then it was
            not changed.
        """
        ...

    async def append_once(self, journal: str, record: bytes, write_id: str, window_s: float) -> bool:
        """Append an entry, unless one of the same id was appended within the time for which its id is remembered.

        The journal's `Follower` is told of the entry, on this node too, as of one of another node. Without a journal
        of that name nobody is there, and nothing is done.

        Args:
            journal: The journal's name.
            record: The record.
            write_id: The id, at least one character. Ids of `waypost.outside` count too.
            window_s: Seconds for which the id is remembered, above 0.

        Returns:
            ``False`` if the entry is a repeat. On an engine of several nodes (PostgreSQL) the store keeps the entry
            and appends it soon after, so it does not know, and returns ``True``.

        Raises:
            StorageError: The store did not take the entry.
            StorageUncertain: The store may have taken it; call again with the same id.
        """
        ...

    def queue(self, name: str) -> StoredQueue:
        """Return a handle on a queue, which need not exist."""
        ...

    def answers(self) -> Answers:
        """Return a handle on the stored answers to clients."""
        ...

    async def queues(self, *, after: str = "", max_queues: int = 1000, idle: bool = True) -> list[QueueRow]:
        """Return the states of queues after a name, sorted by name as UTF-8.

        Without ``idle``, queues without messages and dead letters are left out.
        """
        ...

    async def configurations(self) -> list[Configuration]:
        """Return the configuration of every queue that has one."""
        ...

    async def release_due(self) -> Due:
        """Assign positions to messages that are due, and to messages that other programs have published.

        Call it when `watch` reports a change, and when a message that this, `enqueue` or `redrive` named falls due.
        """
        ...

    def watch(self, changed: Callable[[], None]) -> None:
        """Call a function in the loop's thread soon after another program has written to the store.

        `release_due` then returns the queues.
        """
        ...

    async def schedule_noted(self, name: str) -> float | None:
        """Return the wall time in seconds that was noted for a schedule; ``None`` if there is none."""
        ...

    async def note_schedule(self, name: str, at: float) -> None:
        """Note a wall time in seconds for a schedule: the last one that was dealt with."""
        ...

    def watch_loss(self, lost: Callable[[StoreLost], None]) -> None:
        """Call a function in the loop's thread when nothing can be stored any more until the next opening.

        The file was removed or cut short, or another server has taken it over. Each later write raises this error.
        """
        ...

    def troubles(self) -> tuple[Trouble, ...]:
        """Return what keeps the store from taking all that it should, now; empty while all is well."""
        ...

    def take_counts(self) -> StoreCounts:
        """Return what was counted since the last call; costs nothing, also while the store is closed.

        On a store that one process has for many, one of them gets the counts.
        """
        ...

    async def size(self) -> StoreSize:
        """Return the store's size. The cost does not grow with what it keeps, but with the number of journals."""
        ...

    async def expire_consumers(self, idle_s: float, attached: Collection[tuple[str, str]]) -> list[ExpiredConsumer]:
        """Remove consumers that were not used for a time.

        Args:
            idle_s: The time, in seconds.
            attached: Queue and name of consumers that are in use all the same.

        Returns:
            The removed consumers. Each is reported at most once.
        """
        ...

    async def expire_sessions(self) -> list[ExpiredSession]:
        """Remove detached sessions whose time is over, except for their tombstones.

        Returns:
            The removed sessions. Each is reported at most once: not if the process ends or the caller is cancelled
            before that.
        """
        ...

    async def trim(self) -> int:
        """Trim every journal to its retention; returns the number of entries removed since the last call.

        This also removes memberships that ended before a journal's oldest entry, messages and dead letters that are
        too old, messages that have outlived their time to live, ids whose deduplication window has ended, and answers
        that are too old.
        """
        ...
