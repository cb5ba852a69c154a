"""A durable store of the simulation: group commit with latency onto a `Disk`, and a crash at any step of it.

A write is asked for, applied to the disk with all that gathered meanwhile, and reported later still: that is how the
SQLite store does it, with its thread and its flushes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.sim.disk import OPERATION, Disk, run_now
from tests.sim.store_holds import SimHolds, blame_holders
from tests.sim.store_queue import SimQueue
from waypost.errors import StorageError, StoreClosed, StoreFull, StoreLost
from waypost.storage.answer_base import Answer, Answers
from waypost.storage.base import Journal, OnCommit
from waypost.storage.clock import StoreClock
from waypost.storage.following import Follower, Nodes
from waypost.storage.journal_records import Capabilities, Entry, ExpiredSession, SessionRow
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import Configuration, Due, ExpiredConsumer, QueueRow
from waypost.storage.store_numbers import StoreCounts, StoreSize
from waypost.storage.trouble import Trouble

__all__ = ["Pace", "SimStore"]

_NAME = "sim"
_PROVE_AFTER_S = 1.0
_MAX_BATCH = 8


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast and how reliable a disk is.

    Attributes:
        commit_s: The longest a commit takes.
        report_s: The longest its report takes.
        full: How likely a commit fails for want of space.
        orphan_ttl_s: How long sessions are kept that a crash left attached.
        blames: Whether it is noted who has which message in hand, so that a crash is counted against it.
    """

    commit_s: float
    report_s: float
    full: float
    orphan_ttl_s: float
    blames: bool


@dataclass(slots=True)
class _Job:
    work: Callable[[], Any]
    on_commit: Callable[[Any], None] | None
    future: asyncio.Future[Any]
    result: Any = None
    error: StorageError | None = None


class SimStore:
    """One opening of the disk; see `waypost.storage.base.Store`.

    Args:
        disk: The disk.
        pace: How fast it is.
        chance: Where its latencies come from.
        gate: Called with the name of each step; returns whether the process crashed there.

    Attributes:
        full: How likely a commit fails from now on.
        openings: How often it was opened.
    """

    def __init__(self, disk: Disk, pace: Pace, chance: Random, gate: Callable[[str], bool]) -> None:
        self.disk = disk
        self.full = pace.full
        self._pace = pace
        self._chance = chance
        self._gate = gate
        self._closed = True
        self.openings = 0
        self._waiting: deque[_Job] = deque()
        self._reports: deque[list[_Job]] = deque()
        self._committing = False
        self._last_report = 0.0
        self._idle: asyncio.Future[None] | None = None
        self._journals: dict[str, SimJournal] = {}
        self._holds = SimHolds(self) if pace.blames else None

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(durable=True, description="simulated")

    async def open(self) -> None:
        if not self._closed:
            raise StorageError(_NAME, "it is open already")
        self.disk.detach_all(self._pace.orphan_ttl_s)
        blame_holders(self.disk)
        self.disk.begin_generation()
        await asyncio.sleep(self._chance.random() * self._pace.commit_s)
        self._journals = {}
        self.openings += 1
        self._closed = False
        self.disk.begin_clock()
        self.disk.queues.note("opened", "", "")

    @property
    def nodes(self) -> Nodes | None:
        return None

    @property
    def clock(self) -> StoreClock:
        return self.disk.store.clock

    async def close(self) -> None:
        if self._closed:
            return
        for journal in self._journals.values():
            journal.write_proven()
        if self._holds is not None:
            self._holds.stop()
        self._closed = True
        if self._waiting or self._reports or self._committing:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle
        self.disk.holding.clear()

    def check(self) -> None:
        if self._closed:
            raise StoreClosed(_NAME)

    async def journal(self, name: str) -> Journal:
        self.check()
        await self.write(lambda: self.disk.journal(name))
        journal = self._journals.get(name)
        if journal is None:
            journal = self._journals[name] = SimJournal(name, self)
        return journal

    async def followed_journals(self) -> list[str]:
        self.check()
        names: list[str] = run_now(self.disk.store.followed_journals())
        return names

    async def drop_journal(self, name: str) -> bool:
        self.check()
        dropped: bool = await self.write(lambda: run_now(self.disk.store.drop_journal(name)))
        if dropped:
            self._journals.pop(name, None)
        return dropped

    async def append_once(self, journal: str, record: bytes, write_id: str, window_s: float) -> bool:
        is_new: bool = await self.write(
            lambda: run_now(self.disk.store.append_once(journal, record, write_id, window_s))
        )
        return is_new

    def queue(self, name: str) -> StoredQueue:
        self.check()
        return SimQueue(name, self.disk, self.write, self.read, self._holds)

    def answers(self) -> Answers:
        self.check()
        return _SimAnswers(self)

    async def queues(self, *, after: str = "", max_queues: int = 1000, idle: bool = True) -> list[QueueRow]:
        infos: list[QueueRow] = run_now(self.disk.store.queues(after=after, max_queues=max_queues, idle=idle))
        return infos

    async def configurations(self) -> list[Configuration]:
        found: list[Configuration] = run_now(self.disk.store.configurations())
        return found

    async def release_due(self) -> Due:
        def work() -> Due:
            released: Due = run_now(self.disk.store.release_due())
            for queue in sorted(released.queues):
                self.disk.queues.note("released", queue, "")
            return released

        due: Due = await self.write(work)
        return due

    def watch(self, changed: Callable[[], None]) -> None:
        self.check()

    async def schedule_noted(self, name: str) -> float | None:
        self.check()
        noted: float | None = run_now(self.disk.store.schedule_noted(name))
        return noted

    async def note_schedule(self, name: str, at: float) -> None:
        await self.write(lambda: run_now(self.disk.store.note_schedule(name, at)))

    def watch_loss(self, lost: Callable[[StoreLost], None]) -> None:
        self.check()

    def take_counts(self) -> StoreCounts:
        return StoreCounts()

    async def size(self) -> StoreSize:
        return await self.disk.store.size()

    def troubles(self) -> tuple[Trouble, ...]:
        return ()

    async def expire_consumers(self, idle_s: float, attached: Collection[tuple[str, str]]) -> list[ExpiredConsumer]:
        in_use = frozenset(attached)
        expired: list[ExpiredConsumer] = await self.write(
            lambda: run_now(self.disk.store.expire_consumers(idle_s, in_use))
        )
        return expired

    async def expire_sessions(self) -> list[ExpiredSession]:
        expired: list[ExpiredSession] = await self.write(self.disk.expire)
        return expired

    async def trim(self) -> int:
        def work() -> int:
            self.disk.queues.note("trimmed", "", "")
            return int(run_now(self.disk.store.trim()))

        return int(await self.write(work))

    # -- the writer -----------------------------------------------------------------------------------------

    def submit(self, work: Callable[[], Any], on_commit: Callable[[Any], None] | None = None) -> asyncio.Future[Any]:
        """Ask for a write."""
        self.check()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Job(work, on_commit, future))
        if not self._committing:
            self._begin()
        return future

    async def write(self, work: Callable[[], Any], on_commit: Callable[[Any], None] | None = None) -> Any:
        """Ask for a write and wait for its report."""
        return await self.submit(work, on_commit)

    async def read(self, work: Callable[[], Any]) -> Any:
        """Read what is committed, reported or not."""
        self.check()
        if self._chance.random() < 0.5:
            await asyncio.sleep(self._chance.random() * self._pace.commit_s)
            self.check()
        return work()

    def _begin(self) -> None:
        self._committing = True
        loop = asyncio.get_running_loop()
        loop.call_later(self._chance.random() * self._pace.commit_s, self._commit)

    def _commit(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MAX_BATCH))]
        if self._gate("commit"):
            return
        is_full = self._chance.random() < self.full
        for job in batch:
            if is_full:
                job.error = StoreFull(_NAME)
                continue
            try:
                job.result = job.work()
            except StorageError as refusal:
                job.error = refusal
        self._reports.append(batch)
        if self._gate("applied"):
            return
        loop = asyncio.get_running_loop()
        self._last_report = max(self._last_report, loop.time() + self._chance.random() * self._pace.report_s)
        loop.call_at(self._last_report, self._report)
        self._committing = False
        if self._waiting:
            self._begin()

    def _report(self) -> None:
        for job in self._reports.popleft():
            if self._gate("report"):
                return
            if job.error is None and job.on_commit is not None:
                job.on_commit(job.result)
            if job.future.done():
                continue
            if job.error is None:
                job.future.set_result(job.result)
            else:
                job.future.set_exception(job.error)
        if self._idle is not None and not (self._waiting or self._reports or self._committing):
            self._idle.set_result(None)
            self._idle = None


class SimJournal:
    """One journal of a `SimStore`; see `waypost.storage.base.Journal`.

    Attributes:
        top: The last position that was reported.
    """

    def __init__(self, name: str, store: SimStore) -> None:
        self.name = name
        self._store = store
        self._opening = store.openings
        self._disk = store.disk
        self._inner = store.disk.journal(name)
        self.top = self._inner.top
        self.generation = self._inner.generation
        self.ends = self._inner.ends
        self._proven: dict[bytes, tuple[int, int]] = {}
        self._prover: asyncio.TimerHandle | None = None

    def _check(self) -> None:
        self._store.check()
        # It belongs to the opening that made it.
        if self._opening != self._store.openings:
            raise StoreClosed(_NAME)

    async def _write(self, work: Callable[[], Any], on_commit: Callable[[Any], None] | None = None) -> Any:
        self._check()
        return await self._store.write(work, on_commit)

    async def _read(self, work: Callable[[], Any]) -> Any:
        self._check()
        return await self._store.read(work)

    @property
    def oldest(self) -> int:
        return self._inner.oldest

    @property
    def size_bytes(self) -> int:
        return self._inner.size_bytes

    async def append(self, record: bytes, on_commit: OnCommit) -> int:
        operation = OPERATION.get()

        def work() -> int:
            position: int = run_now(self._inner.append(record, _ignore))
            self._disk.note("append", self.name, "", (record,), position, operation)
            return position

        def report(position: int) -> None:
            self.top = position
            on_commit(position)

        return int(await self._write(work, report))

    async def read(self, after: int, upto: int, *, max_entries: int, max_bytes: int) -> list[Entry]:
        upto = min(upto, self.top)

        def work() -> list[Entry]:
            page: list[Entry] = run_now(self._inner.read(after, upto, max_entries=max_entries, max_bytes=max_bytes))
            return page

        entries: list[Entry] = await self._read(work)
        return entries

    async def open_session(self, key: bytes, sid: str, data: bytes, on_commit: OnCommit) -> int:
        def work() -> int:
            start: int = run_now(self._inner.open_session(key, sid, data, _ignore))
            self._disk.note("open", self.name, sid, (), start, None)
            return start

        return int(await self._write(work, on_commit))

    async def find_session(self, key: bytes) -> SessionRow | None:
        self.write_proven()
        found: SessionRow | None = await self._write(lambda: run_now(self._inner.find_session(key)))
        return found

    async def sessions(self, max_sessions: int) -> list[SessionRow]:
        found: list[SessionRow] = await self._write(lambda: run_now(self._inner.sessions(max_sessions)))
        return found

    async def attach_session(self, key: bytes, on_attach: Callable[[SessionRow], None]) -> SessionRow | None:
        self.write_proven()

        def work() -> SessionRow | None:
            found: SessionRow | None = run_now(self._inner.attach_session(key, _ignore))
            if found is not None:
                self._disk.note("attach", self.name, found.sid, (), self._inner.top, None)
            return found

        def report(found: SessionRow | None) -> None:
            if found is not None:
                on_attach(found)

        attached: SessionRow | None = await self._write(work, report)
        return attached

    async def detach_session(self, key: bytes, expires_at: float) -> None:
        await self._change("detach", key, (expires_at,), lambda: run_now(self._inner.detach_session(key, expires_at)))

    async def end_session(self, key: bytes) -> None:
        self._disk.to_end.add(self._disk.sid_of(self.name, key))
        await self._change("end", key, (), lambda: run_now(self._inner.end_session(key)))

    async def save_session(self, key: bytes, data: bytes) -> None:
        await self._change("save", key, (data,), lambda: run_now(self._inner.save_session(key, data)))

    async def note_stuck(self, key: bytes, position: int, times: int) -> None:
        change = lambda: run_now(self._inner.note_stuck(key, position, times))  # noqa: E731
        await self._change("stuck", key, (position, times), change)

    def prove(self, key: bytes, position: int, last: int) -> None:
        self._check()
        self._proven[key] = max((position, last), self._proven.get(key, (0, 0)))
        if self._prover is None:
            self._prover = asyncio.get_running_loop().call_later(_PROVE_AFTER_S, self.write_proven)

    def write_proven(self) -> None:
        """Ask for what was noted to be written now."""
        if self._prover is not None:
            self._prover.cancel()
            self._prover = None
        if self._proven:
            proven, self._proven = self._proven, {}
            self._store.submit(lambda: self._prove_all(proven)).add_done_callback(_heed)

    def _prove_all(self, proven: dict[bytes, tuple[int, int]]) -> None:
        for key, (position, last) in proven.items():
            self._inner.prove(key, position, last)

    async def join(self, key: bytes, rooms: Collection[str], on_commit: OnCommit) -> None:
        wanted = tuple(rooms)
        await self._change("join", key, wanted, lambda: run_now(self._inner.join(key, wanted, _ignore)), on_commit)

    async def leave(self, key: bytes, rooms: Collection[str], on_commit: OnCommit) -> None:
        wanted = tuple(rooms)
        await self._change("leave", key, wanted, lambda: run_now(self._inner.leave(key, wanted, _ignore)), on_commit)

    async def join_matching(
        self, rooms: Collection[str] | None, except_: Collection[str], joined: Collection[str], on_commit: OnCommit
    ) -> None:
        what = _matching(rooms, except_, joined)
        change = lambda: run_now(self._inner.join_matching(*what, _ignore))  # noqa: E731
        await self._change("join", b"", what, change, on_commit)

    async def leave_matching(
        self, rooms: Collection[str] | None, except_: Collection[str], left: Collection[str], on_commit: OnCommit
    ) -> None:
        what = _matching(rooms, except_, left)
        change = lambda: run_now(self._inner.leave_matching(*what, _ignore))  # noqa: E731
        await self._change("leave", b"", what, change, on_commit)

    async def end_matching(
        self,
        rooms: Collection[str] | None,
        except_: Collection[str],
        on_end: Callable[[Collection[ExpiredSession]], None],
        *,
        note: bytes = b"",
    ) -> None:
        ended: list[ExpiredSession] = []

        def work() -> list[ExpiredSession]:
            run_now(self._inner.end_matching(rooms, except_, ended.extend))
            for session in ended:
                self._disk.note("end", self.name, session.sid, (), self._inner.top, None)
            return ended

        await self._write(work, on_end)

    def follow(self, follower: Follower) -> None:
        pass

    async def claim_session(self, key: bytes) -> bytes:
        return b""

    async def release_session(self, key: bytes, handed: bytes) -> None:
        pass

    async def _change(
        self,
        kind: str,
        key: bytes,
        what: tuple[Any, ...],
        change: Callable[[], Any],
        on_commit: OnCommit | None = None,
    ) -> None:
        operation = OPERATION.get()

        def work() -> int:
            self._disk.note(kind, self.name, self._disk.sid_of(self.name, key), what, self._inner.top, operation)
            change()
            return self._inner.top

        await self._write(work, on_commit)


class _SimAnswers:
    """See `waypost.storage.answer_base.Answers`."""

    def __init__(self, store: SimStore) -> None:
        self._store = store
        self._inner = store.disk.store.answers()

    async def find(self, client: bytes, sequence: int, message: str) -> bytes | None:
        found: bytes | None = await self._store.read(lambda: run_now(self._inner.find(client, sequence, message)))
        return found

    async def keep(self, answer: Answer, settled: int) -> None:
        await self._store.write(lambda: run_now(self._inner.keep(answer, settled)))


def _matching(
    rooms: Collection[str] | None, except_: Collection[str], changed: Collection[str]
) -> tuple[tuple[str, ...] | None, tuple[str, ...], tuple[str, ...]]:
    return None if rooms is None else tuple(sorted(rooms)), tuple(sorted(except_)), tuple(changed)


def _ignore(_position: object) -> None:
    """Reports come from the store, later."""


def _heed(written: asyncio.Future[Any]) -> None:
    if not written.cancelled():
        written.exception()
