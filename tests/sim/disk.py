"""What survives a crash: a `MemoryStore` that is never closed, and the log of every write that reached it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from tests.sim.queue_log import QueueLog
from waypost.storage.journal_records import ExpiredSession, Retention
from waypost.storage.memory.store import MemoryStore, _MemoryJournal
from waypost.storage.queue_records import QueueLimits

__all__ = ["OPERATION", "Disk", "Write", "run_now"]

OPERATION: ContextVar[int | None] = ContextVar("OPERATION", default=None)
"""Which of the application's own operations a write is part of."""


_LEAP_S = 0.001


@dataclass(frozen=True, slots=True)
class Write:
    """One write that reached the disk.

    Attributes:
        index: Its place in the order of all writes.
        time: When.
        wall: When, by the wall clock.
        kind: ``append``, ``open``, ``join``, ``leave``, ``attach``, ``detach``, ``end``, ``expire``, ``enqueue``,
            ``consumer``, ``settle``, ``count``, ``save``.
        where: The journal or queue.
        who: The session's sid, or the consumer.
        what: Rooms, positions, expiry: what belongs to the kind.
        position: The journal's position that it concerns.
        operation: The application's operation it is part of.
    """

    index: int
    time: float
    wall: float
    kind: str
    where: str
    who: str
    what: tuple[Any, ...]
    position: int
    operation: int | None


def run_now(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("the disk suspended")


class Disk:
    """The disk.

    Attributes:
        store: What is on it.
        log: Every write, in order.
        leaps: By how much openings have set the store's clock on, as the wall clock was ahead of it.
        to_end: The sids of the sessions that the server wanted to end, whether the disk took it or not.
        oldest: The oldest position of each journal, as it was when it was last asked.
        queues: What happened to queues.
        holding: The oldest message that each holder has in hand, as far as that was noted: queue, consumer, holder ->
            position.
    """

    def __init__(
        self,
        retention: Retention,
        limits: QueueLimits,
        time: Callable[[], float],
        wall_time: Callable[[], float],
        generation: str,
    ) -> None:
        self.store = MemoryStore(retention=retention, queue_limits=limits, wall_time=wall_time, steady_time=time)
        self.queues = QueueLog(time, self.store.clock)
        self.holding: dict[tuple[str, str, str], int] = {}
        self.log: list[Write] = []
        self.leaps: list[float] = []
        self.to_end: set[str] = set()
        self._time = time
        self._generation = generation
        self._generations = 0
        run_now(self.store.open())

    def note(
        self, kind: str, where: str, who: str, what: tuple[Any, ...], position: int, operation: int | None
    ) -> None:
        """Log a write."""
        self.log.append(
            Write(len(self.log), self._time(), self.store.clock.now(), kind, where, who, what, position, operation)
        )

    def journal(self, name: str) -> _MemoryJournal:
        """Return a journal, made if need be."""
        is_new = name not in self.store._journals
        journal: _MemoryJournal = run_now(self.store.journal(name))
        if is_new:
            journal.generation = self._next_generation()
        return journal

    def begin_clock(self) -> None:
        """Begin the store's clock anew, as a file does: with the later of the wall clock and its own last time."""
        before = self.store.clock.now()
        self.store.clock.begin(before)
        if self.store.clock.now() - before > _LEAP_S:
            self.leaps.append(self.store.clock.now() - before)

    def begin_generation(self) -> None:
        """Begin a generation of each journal, as each opening does; the old ones ended where they are."""
        for journal in self.journals():
            journal.ends = {**journal.ends, journal.generation: journal.top}
            journal.generation = self._next_generation()

    def _next_generation(self) -> str:
        # The store's own names would be different in each run.
        self._generations += 1
        return f"{self._generation}g{self._generations}"

    def journals(self) -> list[_MemoryJournal]:
        """List the journals."""
        return list(self.store._journals.values())

    def sid_of(self, journal: str, key: bytes) -> str:
        """Return the sid of a session, empty if it is not stored."""
        found = self.journal(journal)._sessions.get(key)
        return "" if found is None else found.sid

    def attached(self, journal: str) -> set[bytes]:
        """Return the keys of the sessions that are marked as in use."""
        return {key for key, one in self.journal(journal)._sessions.items() if one.expires_at is None}

    def expire(self) -> list[ExpiredSession]:
        """Forget the sessions whose time is over."""
        expired: list[ExpiredSession] = run_now(self.store.expire_sessions())
        for one in expired:
            self.note("expire", one.journal, one.sid, (), self.journal(one.journal).top, None)
        return expired

    def detach_all(self, ttl_s: float) -> None:
        """Mark sessions that a crash left attached as away."""
        expires_at = self.store.clock.now() + ttl_s
        for journal in self.journals():
            for session in journal._sessions.values():
                if session.expires_at is None:
                    session.expires_at = expires_at
                    self.note("detach", journal.name, session.sid, (expires_at,), journal.top, None)
