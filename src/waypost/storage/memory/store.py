"""The reference backend: everything in memory, gone when the process ends.

Every method completes without suspending, so a write is committed when its coroutine has run.
"""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

from waypost.errors import PositionGone, StorageError, StoreClosed, StoreLost
from waypost.storage.answer_base import AnswerLimits, Answers
from waypost.storage.base import ANSWER_TTL_S, MAX_TOMBSTONES, TOMBSTONE_S, Journal, OnCommit
from waypost.storage.clock import StoreClock
from waypost.storage.following import Follower, Nodes
from waypost.storage.generation import new_generation
from waypost.storage.journal_records import Capabilities, Entry, ExpiredSession, Membership, Retention, SessionRow
from waypost.storage.memory.answers import MemoryAnswers
from waypost.storage.memory.queue import MemoryQueue, MemoryQueues, Opening
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import Configuration, Due, ExpiredConsumer, QueueLimits, QueueRow
from waypost.storage.store_numbers import MOST_JOURNALS, StoreCounts, StoreSize
from waypost.storage.tail import Tail
from waypost.storage.trouble import Trouble

__all__ = ["MemoryStore"]

_STORE = "memory:"

# Times are kept for groups of entries, each this share of the age limit long, and not for every entry.
_MARKS_PER_AGE = 1000


@dataclass(slots=True)
class _Session:
    sid: str
    start: int
    proven: int
    last: int
    data: bytes
    expires_at: float | None = None
    stuck_at: int = 0
    stuck_times: int = 0
    rooms: dict[str, int] = field(default_factory=dict)
    """Each room with the position after which it counts."""
    earlier: list[Membership] = field(default_factory=list)

    def expired(self, now: float) -> bool:
        return self.expires_at is not None and self.expires_at < now

    def memberships(self) -> tuple[Membership, ...]:
        now = [Membership(room, since) for room, since in self.rooms.items()]
        return tuple(sorted([*self.earlier, *now], key=lambda one: (one.since, one.room)))

    def join(self, rooms: Collection[str], top: int) -> None:
        # A client may be in very many rooms: no change may cost more than the rooms that it names.
        for room in rooms:
            self.rooms.setdefault(room, top)

    def leave(self, rooms: Collection[str], top: int) -> None:
        for room in {*rooms} & self.rooms.keys():
            since = self.rooms.pop(room)
            # Joined and left between two entries, it covers none.
            if since != top:
                self.earlier.append(Membership(room, since, top))


class _MemoryJournal:
    """One journal of a `MemoryStore`; see `waypost.storage.base.Journal`."""

    __slots__ = (
        "_clock",
        "_follower",
        "_mark_every_s",
        "_marked_at",
        "_marks",
        "_max_age_s",
        "_opening",
        "_sessions",
        "_tail",
        "_told_oldest",
        "_tombstones",
        "ends",
        "generation",
        "name",
        "top",
    )

    def __init__(self, name: str, opening: Opening, retention: Retention, clock: StoreClock) -> None:
        self.name = name
        self.generation = new_generation()
        # A journal in memory has no earlier opening.
        self.ends: Mapping[str, int] = {}
        self.top = 0
        self._opening = opening
        self._clock = clock
        self._follower: Follower | None = None
        self._max_age_s = retention.max_age_s
        self._mark_every_s = retention.max_age_s / _MARKS_PER_AGE
        self._marked_at = float("-inf")
        # (time, position): the entries from that position on were appended at that time or later.
        self._marks: list[tuple[float, int]] = []
        self._tail = Tail(0, max_bytes=retention.max_bytes, max_entries=retention.max_entries)
        self._told_oldest = 1
        self._sessions: dict[bytes, _Session] = {}
        # Key -> sid, when its time ended.
        self._tombstones: dict[bytes, tuple[str, float]] = {}

    @property
    def oldest(self) -> int:
        return self._tail.first

    @property
    def size_bytes(self) -> int:
        return self._tail.size_bytes

    @property
    def oldest_at(self) -> float | None:
        # A mark stands for the entries up to the next one.
        at = bisect_right(self._marks, self.oldest, key=lambda mark: mark[1])
        return self._marks[at - 1][0] if at and self.oldest <= self.top else None

    async def append(self, record: bytes, on_commit: OnCommit) -> int:
        if self._opening.closed:
            raise StoreClosed(_STORE)
        self._tail.append(record)
        self.top = position = self.top + 1
        now = self._clock.now()
        if now - self._marked_at >= self._mark_every_s:
            self._marked_at = now
            self._marks.append((now, position))
        on_commit(position)
        return position

    async def read(self, after: int, upto: int, *, max_entries: int, max_bytes: int) -> list[Entry]:
        self._opening.check()
        upto = min(upto, self.top)
        if after >= upto:
            return []
        if after + 1 < self.oldest:
            raise PositionGone(_STORE, self.name, after, self.oldest)
        return self._tail.read(after, upto, max_entries=max_entries, max_bytes=max_bytes)

    async def open_session(self, key: bytes, sid: str, data: bytes, on_commit: OnCommit) -> int:
        self._opening.check()
        if key in self._sessions:
            raise StorageError(_STORE, f"session {sid} is stored already")
        self._tombstones.pop(key, None)
        self._sessions[key] = _Session(sid, self.top, self.top, self.top, data)
        on_commit(self.top)
        return self.top

    async def find_session(self, key: bytes) -> SessionRow | None:
        self._opening.check()
        now = self._clock.now()
        found = self._sessions.get(key)
        if found is None:
            return self._find_tombstone(key, now)
        return SessionRow(
            key,
            found.sid,
            found.start,
            found.proven,
            found.last,
            found.data,
            found.expires_at,
            found.memberships(),
            found.expired(now),
            stuck_at=found.stuck_at,
            stuck_times=found.stuck_times,
        )

    async def sessions(self, max_sessions: int) -> list[SessionRow]:
        found = [await self.find_session(key) for key in [*self._sessions][:max_sessions]]
        return [one for one in found if one is not None]

    async def attach_session(self, key: bytes, on_attach: Callable[[SessionRow], None]) -> SessionRow | None:
        stored = await self.find_session(key)
        if stored is None or stored.expired:
            return None
        self._sessions[key].expires_at = None
        stored = replace(stored, expires_at=None)
        on_attach(stored)
        return stored

    async def detach_session(self, key: bytes, expires_at: float) -> None:
        self._opening.check()
        if found := self._sessions.get(key):
            found.expires_at = expires_at

    async def end_session(self, key: bytes) -> None:
        self._opening.check()
        self._sessions.pop(key, None)

    @property
    def is_followed(self) -> bool:
        """Whether it has sessions."""
        return bool(self._sessions)

    async def save_session(self, key: bytes, data: bytes) -> None:
        self._opening.check()
        if found := self._sessions.get(key):
            found.data = data

    async def note_stuck(self, key: bytes, position: int, times: int) -> None:
        self._opening.check()
        if found := self._sessions.get(key):
            found.stuck_at, found.stuck_times = position, times

    def prove(self, key: bytes, position: int, last: int) -> None:
        self._opening.check()
        found = self._sessions.get(key)
        if found and position > found.proven:
            found.proven, found.last = position, last

    async def join(self, key: bytes, rooms: Collection[str], on_commit: OnCommit) -> None:
        self._opening.check()
        if found := self._sessions.get(key):
            found.join(rooms, self.top)
        on_commit(self.top)

    async def leave(self, key: bytes, rooms: Collection[str], on_commit: OnCommit) -> None:
        self._opening.check()
        if found := self._sessions.get(key):
            found.leave(rooms, self.top)
        on_commit(self.top)

    async def join_matching(
        self, rooms: Collection[str] | None, except_: Collection[str], joined: Collection[str], on_commit: OnCommit
    ) -> None:
        self._opening.check()
        for session in self._matching(rooms, except_):
            session.join({*joined} - {session.sid}, self.top)
        on_commit(self.top)

    async def leave_matching(
        self, rooms: Collection[str] | None, except_: Collection[str], left: Collection[str], on_commit: OnCommit
    ) -> None:
        self._opening.check()
        for session in self._matching(rooms, except_):
            session.leave({*left} - {session.sid}, self.top)
        on_commit(self.top)

    async def end_matching(
        self,
        rooms: Collection[str] | None,
        except_: Collection[str],
        on_end: Callable[[Collection[ExpiredSession]], None],
        *,
        note: bytes = b"",
    ) -> None:
        self._opening.check()
        ended = [*self._matching(rooms, except_)]
        sids = {one.sid for one in ended}
        self._sessions = {key: one for key, one in self._sessions.items() if one.sid not in sids}
        on_end([ExpiredSession(self.name, one.sid, one.data) for one in ended])

    def follow(self, follower: Follower) -> None:
        self._follower = follower

    async def append_from_outside(self, record: bytes) -> None:
        """Append an entry of which the follower is told, as no feed waits for it."""

        def told(position: int) -> None:
            if self._follower is not None:
                self._follower.appended(position, record)

        await self.append(record, told)

    async def claim_session(self, key: bytes) -> bytes:
        return b""

    async def release_session(self, key: bytes, handed: bytes) -> None:
        pass

    def _matching(self, rooms: Collection[str] | None, except_: Collection[str]) -> Iterator[_Session]:
        now = self._clock.now()
        wanted = None if rooms is None else {*rooms}
        unwanted = {*except_}
        for session in self._sessions.values():
            inside = {session.sid, *session.rooms}
            if not session.expired(now) and (wanted is None or inside & wanted) and not inside & unwanted:
                yield session

    def expire_sessions(self, now: float) -> list[ExpiredSession]:
        expired = {key: one for key, one in self._sessions.items() if one.expired(now)}
        for key, one in expired.items():
            del self._sessions[key]
            self._tombstones[key] = one.sid, one.expires_at or now
        newest = sorted(self._tombstones.items(), key=lambda item: item[1][1])[-MAX_TOMBSTONES:]
        self._tombstones = {key: stone for key, stone in newest if stone[1] >= now - TOMBSTONE_S}
        return [ExpiredSession(self.name, one.sid, one.data) for one in expired.values()]

    def _find_tombstone(self, key: bytes, now: float) -> SessionRow | None:
        sid, expired_at = self._tombstones.get(key, ("", float("-inf")))
        if expired_at < now - TOMBSTONE_S:
            return None
        return SessionRow(key, sid, 0, 0, 0, b"", expired_at, (), expired=True)

    def trim(self, now: float) -> int:
        current = bisect_left(self._marks, (now - self._max_age_s, 0))
        kept_from = self._marks[current][1] if current < len(self._marks) else self.top + 1
        self._tail.drop_before(kept_from)
        del self._marks[:current]
        for session in self._sessions.values():
            session.earlier = [one for one in session.earlier if (one.until or 0) >= self.oldest - 1]
        # What appends have dropped since the last time counts too.
        trimmed = self.oldest - self._told_oldest
        self._told_oldest = self.oldest
        return trimmed


class MemoryStore:
    """Journals, sessions, queues and answers in memory; see `waypost.storage.base.Store`.

    Closing it forgets everything: opened again, it is empty.

    Args:
        retention: How much each journal keeps. Its limits on entries and bytes hold at every moment,
            its limit on age, kept to a thousandth, after each `trim`.
        queue_limits: How much each queue keeps that has no limits of its own.
        answer_ttl_s: For how long an answer is kept, in seconds.
        answer_limits: The limits on the bytes of answers.
        wall_time: The wall clock, in seconds since 1970.
        steady_time: The clock for durations; see `StoreClock`.
    """

    def __init__(
        self,
        *,
        retention: Retention | None = None,
        queue_limits: QueueLimits | None = None,
        answer_ttl_s: float = ANSWER_TTL_S,
        answer_limits: AnswerLimits | None = None,
        wall_time: Callable[[], float] = time.time,
        steady_time: Callable[[], float] | None = None,
    ) -> None:
        self._retention = retention or Retention()
        self._queue_limits = queue_limits or QueueLimits()
        self._answer_ttl_s = answer_ttl_s
        self._answer_limits = answer_limits or AnswerLimits()
        self._clock = StoreClock(wall_time, steady_time)
        self._begin(closed=True)

    def _begin(self, *, closed: bool) -> None:
        self._opening = Opening(_STORE, closed)
        self._journals: dict[str, _MemoryJournal] = {}
        self._schedules: dict[str, float] = {}
        # Until when the id of an entry is remembered, on the store's clock, by journal and id.
        self._ids: dict[tuple[str, str], float] = {}
        self._queues = MemoryQueues(self._opening, self._queue_limits, self._clock)
        self._answers = MemoryAnswers(self._opening, self._answer_ttl_s, self._answer_limits, self._clock)

    @property
    def capabilities(self) -> Capabilities:
        """The guarantees of this store."""
        return Capabilities(durable=False, description="memory, lost when the process ends  durability: none")

    @property
    def clock(self) -> StoreClock:
        """The clock on which the store measures durations."""
        return self._clock

    @property
    def nodes(self) -> Nodes | None:
        """No other node."""
        return None

    async def open(self) -> None:
        """Open it, empty.

        Raises:
            StorageError: It is open already.
        """
        if not self._opening.closed:
            raise StorageError(_STORE, "it is open already")
        self._clock.begin()
        self._begin(closed=False)

    async def close(self) -> None:
        """Remove everything; its journals and queues can't be used any more. A second call does nothing."""
        self._opening.closed = True
        self._begin(closed=True)

    async def journal(self, name: str) -> Journal:
        """Return a namespace's journal; if it does not exist, make it. The same object for the same name."""
        self._opening.check()
        journal = self._journals.get(name)
        if journal is None:
            journal = _MemoryJournal(name, self._opening, self._retention, self._clock)
            self._journals[name] = journal
        return journal

    async def followed_journals(self) -> list[str]:
        """Return the names of the journals that have sessions, sorted."""
        self._opening.check()
        return sorted(name for name, journal in self._journals.items() if journal.is_followed)

    async def drop_journal(self, name: str) -> bool:
        """Remove a journal without sessions; returns whether it was removed."""
        self._opening.check()
        journal = self._journals.get(name)
        if journal is not None and journal.is_followed:
            return False
        self._journals.pop(name, None)
        self._ids = {one: until for one, until in self._ids.items() if one[0] != name}
        return True

    async def append_once(self, journal: str, record: bytes, write_id: str, window_s: float) -> bool:
        """Append an entry, unless one of the same id was appended within its window."""
        self._opening.check()
        found = self._journals.get(journal)
        if found is None:
            return True
        now = self._clock.now()
        if self._ids.get((journal, write_id), now) > now:
            return False
        self._ids[journal, write_id] = now + window_s
        await found.append_from_outside(record)
        return True

    def queue(self, name: str) -> StoredQueue:
        """Return a handle on a queue, whether it exists or not."""
        self._opening.check()
        return MemoryQueue(name, self._queues)

    def answers(self) -> Answers:
        """Return a handle on the stored answers to clients."""
        self._opening.check()
        return self._answers

    async def queues(self, *, after: str = "", max_queues: int = 1000, idle: bool = True) -> list[QueueRow]:
        """Return the states of queues by name."""
        return self._queues.infos(after, max_queues, idle=idle)

    async def configurations(self) -> list[Configuration]:
        """Return the configuration of every queue that has one."""
        self._opening.check()
        return [
            Configuration(name, backlog.limits, backlog.settings)
            for name, backlog in sorted(self._queues.backlogs.items())
            if backlog.settings is not None
        ]

    async def release_due(self) -> Due:
        """Assign positions to messages that are due."""
        self._opening.check()
        return self._queues.release_due()

    def watch(self, changed: Callable[[], None]) -> None:
        """Do nothing: no other program can write to it."""
        self._opening.check()

    async def schedule_noted(self, name: str) -> float | None:
        """Return the time that was noted for a schedule."""
        self._opening.check()
        return self._schedules.get(name)

    async def note_schedule(self, name: str, at: float) -> None:
        """Note a time for a schedule."""
        self._opening.check()
        self._schedules[name] = at

    def watch_loss(self, lost: Callable[[StoreLost], None]) -> None:
        """Do nothing: nobody can take it away."""
        self._opening.check()

    def take_counts(self) -> StoreCounts:
        """Return no counts: nothing is written, and nothing fails."""
        return StoreCounts()

    async def size(self) -> StoreSize:
        """Return the times of the journals' oldest entries."""
        self._opening.check()
        oldest = {name: at for name, journal in self._journals.items() if (at := journal.oldest_at) is not None}
        return StoreSize(None, None, dict(islice(oldest.items(), MOST_JOURNALS)))

    def troubles(self) -> tuple[Trouble, ...]:
        """Return nothing: there is no disk, and nobody else."""
        return ()

    async def expire_consumers(self, idle_s: float, attached: Collection[tuple[str, str]]) -> list[ExpiredConsumer]:
        """Remove consumers that were not used for a time."""
        self._opening.check()
        return self._queues.expire_consumers(idle_s, attached)

    async def expire_sessions(self) -> list[ExpiredSession]:
        """Remove detached sessions whose time is over; returns them."""
        self._opening.check()
        now = self._clock.now()
        return [one for journal in self._journals.values() for one in journal.expire_sessions(now)]

    async def trim(self) -> int:
        """Trim every journal to its retention; returns the number of removed entries."""
        self._opening.check()
        self._clock.look(_STORE)
        now = self._clock.now()
        self._queues.trim()
        self._answers.trim()
        self._ids = {one: until for one, until in self._ids.items() if until > now}
        return sum(journal.trim(now) for journal in self._journals.values())
