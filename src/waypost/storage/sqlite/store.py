"""The durable backend: one SQLite file, one thread that writes to it, one that reads.

With ``durability="commit"`` a write is reported when it is on disk (in a log that every commit flushes), so it
survives ``kill -9`` and a power loss. With ``"async"`` a write to a journal is reported at once. If the next opening
finds that the last writes may be lost, it begins a new generation.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from waypost.checking.arguments import check
from waypost.checking.rules import rule_of
from waypost.errors import StorageError, StoreClosed, StoreLost
from waypost.logs import fields, get_logger
from waypost.owning import OwnerFile
from waypost.storage.answer_base import AnswerLimits, Answers
from waypost.storage.base import ANSWER_TTL_S, PATIENCE_S, RESERVE_BYTES, Durability, Journal
from waypost.storage.clock import StoreClock
from waypost.storage.following import Nodes
from waypost.storage.journal_records import Capabilities, ExpiredSession, Retention
from waypost.storage.queue_base import StoredQueue
from waypost.storage.queue_records import Configuration, Due, ExpiredConsumer, QueueLimits, QueueRow
from waypost.storage.sqlite.appending_once import OnceEntry, append_once
from waypost.storage.sqlite.disk_room import DiskRoom
from waypost.storage.sqlite.file import connect, open_database, take_ownership, translate
from waypost.storage.sqlite.guard import Guard
from waypost.storage.sqlite.jobs import Transaction
from waypost.storage.sqlite.journals import expiry, sessions
from waypost.storage.sqlite.journals.answers import SqliteAnswers
from waypost.storage.sqlite.journals.dropping import drop_part, is_followed
from waypost.storage.sqlite.journals.journal import SqliteJournal, load_journal
from waypost.storage.sqlite.journals.matching import prepare
from waypost.storage.sqlite.journals.reserve import fork_unclean, release_all
from waypost.storage.sqlite.journals.trim import Trimmed, trim_entries
from waypost.storage.sqlite.mark import Beside
from waypost.storage.sqlite.noted_clock import begin_clock, note_exactly
from waypost.storage.sqlite.openings import begin_opening, close_opening, note_closing
from waypost.storage.sqlite.own_log import check_log
from waypost.storage.sqlite.queues import keeping, queues, schedules
from waypost.storage.sqlite.queues.holds import Holds, blame_holders, forget_holders
from waypost.storage.sqlite.queues.queue import QueueFile, SqliteQueue
from waypost.storage.sqlite.reader import Reader
from waypost.storage.sqlite.sizes import read_size
from waypost.storage.sqlite.steps import repeat
from waypost.storage.sqlite.sweeper import Sweeper
from waypost.storage.sqlite.tasks import expire_consumers, release_due, trim_queues
from waypost.storage.sqlite.turns import OwnersTurns
from waypost.storage.sqlite.writer import Writer
from waypost.storage.store_numbers import Commits, StoreCounts, StoreSize
from waypost.storage.trouble import Trouble

__all__ = ["SqliteStore"]

_logger = get_logger(__name__)

_DURABILITY = rule_of(Durability)


@dataclass(frozen=True, slots=True)
class _File:
    """The parts of an open file."""

    owner: OwnerFile
    guard: Guard
    writing: sqlite3.Connection
    reading: sqlite3.Connection

    def close(self) -> None:
        self.reading.close()
        self.writing.close()
        self.guard.close()
        self.owner.close()


@dataclass(frozen=True, slots=True)
class _Opened:
    writer: Writer
    reader: Reader
    owner: OwnerFile
    guard: Guard
    queues: QueueFile
    sweeper: Sweeper
    answers: SqliteAnswers
    journals: dict[str, SqliteJournal] = field(default_factory=dict)
    loading: asyncio.Lock = field(default_factory=asyncio.Lock)


class SqliteStore:
    """Journals, sessions, queues and answers in one file; see `waypost.storage.base.Store`.

    The file belongs to one store at a time; ``<path>-owner`` beside it marks the owner.

    Args:
        path: The file, created if it does not exist; its directory must exist.
        durability: ``"commit"``: a write is reported when it is on disk. ``"async"``: a write to a journal is
            reported at once, and is on disk within 50 ms; queues as with ``"commit"``.
        retention: The limits of each journal; `trim` applies them.
        queue_limits: The limits of each queue without its own.
        answer_ttl_s: Seconds for which an answer is kept.
        answer_limits: The limits on the bytes of answers.
        tail_bytes: The bytes of each journal's newest records that memory keeps too.
        orphan_ttl_s: Seconds for which a session that a crash left attached is kept after the next `open`.
        disk_reserve_bytes: The bytes that emits leave free on the file's disk.
        wall_time: The wall clock, in seconds since 1970; called in threads of the store.
        steady_time: The clock for durations, called there too; see `StoreClock`.
        patience_s: Seconds for which each write waits while another program holds the lock.
        copy_before_upgrade: Whether to keep a copy of the file before its format is changed.

    Raises:
        ConfigurationError: An option has a value that it does not accept.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Durability = "commit",
        retention: Retention | None = None,
        queue_limits: QueueLimits | None = None,
        answer_ttl_s: float = ANSWER_TTL_S,
        answer_limits: AnswerLimits | None = None,
        tail_bytes: int = 64 << 20,
        orphan_ttl_s: float = 3600,
        disk_reserve_bytes: int = RESERVE_BYTES,
        wall_time: Callable[[], float] = time.time,
        steady_time: Callable[[], float] | None = None,
        patience_s: float = PATIENCE_S,
        copy_before_upgrade: bool = False,
    ) -> None:
        check("durability", durability, _DURABILITY)
        self._deferred = durability == "async"
        # Two names of one file must not get it two owners.
        self._path = Path(os.path.realpath(path))
        self._name = str(self._path)
        self._retention = retention or Retention()
        self._queue_limits = queue_limits or QueueLimits()
        self._answer_ttl_s = answer_ttl_s
        self._answer_limits = answer_limits or AnswerLimits()
        self._tail_bytes = tail_bytes
        self._orphan_ttl_s = orphan_ttl_s
        self._disk_reserve_bytes = disk_reserve_bytes
        self._clock = StoreClock(wall_time, steady_time)
        self._patience_s = patience_s
        self._copies = copy_before_upgrade
        self._commits = Commits()
        self._opened: _Opened | None = None
        self._changing = asyncio.Lock()

    @property
    def capabilities(self) -> Capabilities:
        """The guarantees of this store."""
        file = f"SQLite file {self._name}"
        if not self._deferred:
            return Capabilities(durable=True, description=f"{file} (WAL, synchronous=FULL)  durability: commit")
        told = "async, on disk within 50 ms; a crash may lose the last ones and tells so"
        return Capabilities(durable=False, description=f"{file} (WAL, synchronous=FULL)  durability: {told}")

    @property
    def clock(self) -> StoreClock:
        """The clock on which the store measures durations."""
        return self._clock

    @property
    def nodes(self) -> Nodes | None:
        """No other node: one process has the file open."""
        return None

    async def open(self) -> None:
        """Open the file, or create it. Sessions that a crash left attached are detached.

        Raises:
            ConfigurationError: The path is not that of a file that can be opened.
            StoreBusy: Another store has the file open.
            StoreDamaged: The file is not a Waypost store, or it is damaged. It was not changed.
            StorageError: The store is open already.
        """
        async with self._changing:
            if self._opened is not None:
                raise StorageError(self._name, "it is open already")
            thread = ThreadPoolExecutor(1, thread_name_prefix=f"waypost read {self._name}")
            loop = asyncio.get_running_loop()
            opening = loop.run_in_executor(thread, self._open_file)
            try:
                file = await asyncio.shield(opening)
            except BaseException:
                opening.add_done_callback(_let_go)
                thread.shutdown(wait=False)
                raise
            writer = Writer(
                self._name,
                file.writing,
                loop,
                self._clock,
                file.guard,
                DiskRoom(self._path, self._disk_reserve_bytes),
                commits=self._commits,
                turns=OwnersTurns(self._name),
                patience_s=self._patience_s,
            )
            reader = Reader(self._name, file.reading, thread)
            holds = Holds(self._name, writer)
            held_back: dict[str, asyncio.Event] = {}
            sweeper = Sweeper(self._name, writer, held_back)
            queues = QueueFile(
                self._name,
                self._queue_limits,
                self._clock,
                writer,
                reader,
                holds,
                sweeper.wake,
                held_back=held_back,
            )
            answers = SqliteAnswers(writer, reader, self._answer_ttl_s, self._answer_limits)
            self._opened = _Opened(writer, reader, file.owner, file.guard, queues, sweeper, answers)

    async def close(self) -> None:
        """Finish the pending calls, and close the file. A second call does nothing.

        Raises:
            StorageError: Reported writes can't be written to disk. The file is closed all the same, and the next
                opening reports the loss.
        """
        async with self._changing:
            if self._opened is None:
                return
            opened = self._opened
            await opened.sweeper.stop()
            # The writer's connection is the last to close, which empties the log into the file.
            await opened.reader.close()
            released: asyncio.Future[None] | None = None
            async with opened.loading:
                for journal in opened.journals.values():
                    await journal.finish()
                # From here to the writer's closing in one go, so that nothing is written behind it.
                for journal in opened.journals.values():
                    journal.write_proven()
                opened.queues.holds.stop()
                forgetting = opened.writer.submit(forget_holders)
                if self._deferred:
                    released = opened.writer.submit(release_all)
                noting = opened.writer.submit(note_exactly)
                closing = opened.writer.submit(close_opening)
                await opened.writer.close()
            if forgetting.exception() is not None:
                _logger.warning(
                    "%s: what was in hand will be counted as lost: %s",
                    self._name,
                    forgetting.exception(),
                    extra=fields(store=self._name),
                )
            if noting.exception() is not None:
                _logger.warning(
                    "%s: the time of the closing is not noted: %s",
                    self._name,
                    noting.exception(),
                    extra=fields(store=self._name),
                )
            if closing.exception() is None:
                note_closing(Beside(opened.owner), opened.guard.mark, closing.result())
            opened.guard.close()
            opened.owner.close()
            self._opened = None
            if released is not None:
                await released

    async def journal(self, name: str) -> Journal:
        """Return a namespace's journal; if it does not exist, make it. The same object for the same name."""
        opened = self._open()
        # One at a time, so that two who ask for the same one get the same.
        async with opened.loading:
            journal = opened.journals.get(name)
            if journal is None:
                journal = await load_journal(
                    self._name,
                    name,
                    opened.writer,
                    opened.reader,
                    tail_bytes=self._tail_bytes,
                    deferred=self._deferred,
                )
                opened.journals[name] = journal
        return journal

    async def followed_journals(self) -> list[str]:
        """Return the names of the journals that have sessions, sorted."""
        return await self._open().writer.submit(_followed_journals)

    async def drop_journal(self, name: str) -> bool:
        """Remove a journal without sessions; returns whether it was removed."""
        opened = self._open()
        async with opened.loading:
            journal = opened.journals.get(name)
            asking = (
                opened.writer.submit(partial(is_followed, name=name)) if journal is None else journal.is_followed()
            )
            if await asking:
                return False
            if journal is not None:
                del opened.journals[name]
                await journal.finish()
            await repeat(opened.writer, partial(drop_part, name=name))
        return True

    async def append_once(self, journal: str, record: bytes, write_id: str, window_s: float) -> bool:
        """Append an entry, unless one of the same id was appended within its window."""
        opened = self._open()
        wanted = OnceEntry(journal, record, write_id, window_s)
        return await append_once(opened.writer, opened.journals, wanted, deferred=self._deferred)

    def queue(self, name: str) -> StoredQueue:
        """Return a handle on a queue, whether it exists or not."""
        return SqliteQueue(name, self._open().queues)

    def answers(self) -> Answers:
        """Return a handle on the stored answers to clients."""
        return self._open().answers

    async def queues(self, *, after: str = "", max_queues: int = 1000, idle: bool = True) -> list[QueueRow]:
        """Return the states of queues by name."""
        return await self._open().reader.run(lambda connection: queues.infos(connection, after, max_queues, idle))

    async def configurations(self) -> list[Configuration]:
        """Return the configuration of every queue that has one."""
        return await self._open().reader.run(queues.configurations)

    async def release_due(self) -> Due:
        """Assign positions to messages that are due, and to messages that other programs have published."""
        opened = self._open()
        return await release_due(opened.queues, opened.journals, deferred=self._deferred)

    def watch(self, changed: Callable[[], None]) -> None:
        """Call a function when another program has written to the file."""
        self._open().writer.watch(changed)

    async def schedule_noted(self, name: str) -> float | None:
        """Return the time that was noted for a schedule."""
        opened = self._open()
        opened.writer.check()
        return await opened.reader.run(lambda connection: schedules.noted(connection, name))

    async def note_schedule(self, name: str, at: float) -> None:
        """Note a time for a schedule."""
        await self._open().writer.submit(lambda tx: schedules.note(tx, name, at))

    def watch_loss(self, lost: Callable[[StoreLost], None]) -> None:
        """Call a function when the file was removed or cut short, or another server has taken it over."""
        self._open().writer.watch_loss(lost)

    def take_counts(self) -> StoreCounts:
        """Return what was counted since the last call."""
        return self._commits.take()

    async def size(self) -> StoreSize:
        """Return the size of the file with its log, and the times of the journals' oldest entries."""
        return await self._open().reader.run(partial(read_size, self._path))

    def troubles(self) -> tuple[Trouble, ...]:
        """Return what keeps the store from taking all that it should."""
        return self._open().writer.troubles()

    async def expire_consumers(self, idle_s: float, attached: Collection[tuple[str, str]]) -> list[ExpiredConsumer]:
        """Remove consumers that were not used for a time."""
        return await expire_consumers(self._open().queues, idle_s, attached)

    async def expire_sessions(self) -> list[ExpiredSession]:
        """Remove detached sessions whose time is over; returns them."""
        opened = self._open()
        expired: list[ExpiredSession] = []
        try:
            while forgotten := await opened.writer.submit(expiry.expire):
                expired += [one.session for one in forgotten]
                for one in forgotten:
                    if one.session.journal in opened.journals:
                        opened.journals[one.session.journal].expired(one.key)
            for journal in await opened.reader.run(_journal_numbers):
                await repeat(opened.writer, partial(expiry.forget_tombstones, journal=journal))
        except StorageError as error:
            # Those that went before it did must be told; if it lasts, the next call raises it.
            if not expired:
                raise
            _logger.warning(
                "%s: sessions expired, but not all that should have: %s",
                self._name,
                error,
                extra=fields(store=self._name),
            )
        return expired

    async def trim(self) -> int:
        """Trim every journal to its retention; returns the number of removed entries."""
        opened = self._open()
        handles = {journal.log.id: journal for journal in opened.journals.values()}
        entries = 0
        for journal in await opened.reader.run(_journal_numbers):
            entries += await self._trim_journal(opened.writer, journal, handles.get(journal))
        await trim_queues(opened.queues)
        await opened.answers.trim()
        return entries

    async def _trim_journal(self, writer: Writer, journal: int, handle: SqliteJournal | None) -> int:
        def step(tx: Transaction) -> Trimmed:
            return trim_entries(tx, journal, self._retention)

        def note(trimmed: Trimmed) -> None:
            if handle is not None:
                handle.log.trimmed(trimmed.oldest, trimmed.before)

        trimmed = await writer.submit(step, note)
        entries = trimmed.entries
        while trimmed.more:
            trimmed = await writer.submit(step, note)
            entries += trimmed.entries
        await repeat(writer, lambda tx: sessions.drop_left(tx, journal, trimmed.oldest))
        return entries

    def _warn(self, forked: list[str]) -> None:
        if forked:
            _logger.warning(
                "%s: was not closed, and its last events may be lost; a new generation begins for %s, and all "
                "clients start anew",
                self._name,
                ", ".join(forked),
                extra=fields(store=self._name),
            )

    def _open(self) -> _Opened:
        if self._opened is None:
            raise StoreClosed(self._name)
        return self._opened

    def _open_file(self) -> _File:
        with contextlib.ExitStack() as undo:
            owner = take_ownership(self._path)
            undo.callback(owner.close)
            beside = Beside(owner)
            log = check_log(self._path, beside.read()[1])
            writing = open_database(self._path, self._patience_s, copies=self._copies)
            undo.callback(writing.close)
            try:
                prepare(writing)
                keeping.add_functions(writing, self._queue_limits.keep_settled_s, self._clock.now)
                now = begin_clock(writing, self._clock)
                mark = begin_opening(writing, beside, log, self._name, now, self._disk_reserve_bytes)
                self._warn(fork_unclean(writing, now))
                sessions.detach_all(writing, now + self._orphan_ttl_s)
                blame_holders(writing, now)
                reading = connect(self._path)
            except sqlite3.Error as error:
                raise translate(self._name, error) from error
            guard = Guard(self._path, beside, mark)
            undo.pop_all()
        return _File(owner, guard, writing, reading)


def _let_go(opening: asyncio.Future[_File]) -> None:
    # Only if the opening was cancelled while its thread went on: otherwise there is no file.
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def _followed_journals(tx: Transaction) -> list[str]:
    rows = tx.connection.execute(
        "SELECT name FROM journal WHERE EXISTS (SELECT 1 FROM session WHERE journal = journal.id)"
    )
    return sorted(name for (name,) in rows)


def _journal_numbers(connection: sqlite3.Connection) -> list[int]:
    return [journal for (journal,) in connection.execute("SELECT id FROM journal")]
