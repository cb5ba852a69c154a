"""One journal of a `SqliteStore`, seen from the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from functools import partial

from waypost.errors import PositionGone, StoreDamaged
from waypost.logs import fields, get_logger
from waypost.storage.base import OnCommit
from waypost.storage.following import Follower
from waypost.storage.generation import new_generation
from waypost.storage.journal_records import Entry, ExpiredSession, SessionRow
from waypost.storage.outside import OutsideWrite, tell_follower
from waypost.storage.sqlite.jobs import Transaction
from waypost.storage.sqlite.journals import dropping, sessions
from waypost.storage.sqlite.journals.deferred import BLOCK, DeferredWrites
from waypost.storage.sqlite.journals.entries import DamagedEntry, ends_certainly, read_entries
from waypost.storage.sqlite.journals.generations import begin_generation, generation_ends
from waypost.storage.sqlite.journals.log import Log, Row, load_log
from waypost.storage.sqlite.journals.matching import Matching, end_matching, join_matching, leave_matching
from waypost.storage.sqlite.journals.reserve import begin_beyond, reserve
from waypost.storage.sqlite.journals.writes import CommittedWrites, Writes
from waypost.storage.sqlite.reader import Reader
from waypost.storage.sqlite.writer import Writer

__all__ = ["SqliteJournal", "load_journal"]

_logger = get_logger(__name__)

# What `prove` notes is written this much later, with all that was noted meanwhile.
_PROVE_AFTER_S = 1.0
# If the newest entries are damaged, so may be their positions. No position is used twice.
_BEYOND_DAMAGE = 1 << 32


class SqliteJournal:
    """One journal of a `SqliteStore`; see `waypost.storage.base.Journal`.

    Args:
        store: The store, as errors name it.
        name: The journal's name.
        log: The journal's positions and newest records.
        writes: The way in which writes are reported.
        writer: Writes to the file.
        reader: Reads from the file.

    Attributes:
        name: The journal's name.
        log: The journal's positions and newest records.
    """

    __slots__ = ("_follower", "_proven", "_prover", "_reader", "_store", "_writer", "_writes", "log", "name")

    def __init__(self, store: str, name: str, log: Log, writes: Writes, writer: Writer, reader: Reader) -> None:
        self.name = name
        self.log = log
        self._store = store
        self._writes = writes
        self._writer = writer
        self._reader = reader
        self._follower: Follower | None = None
        self._proven: dict[bytes, tuple[int, int]] = {}
        self._prover: asyncio.TimerHandle | None = None

    @property
    def generation(self) -> str:
        """The name of this history."""
        return self.log.generation

    @property
    def ends(self) -> Mapping[str, int]:
        """Where earlier generations ended."""
        return self.log.ends

    @property
    def top(self) -> int:
        """The position of the last committed entry."""
        return self.log.top

    @property
    def oldest(self) -> int:
        """The oldest position still kept."""
        return self.log.oldest

    @property
    def size_bytes(self) -> int:
        """The size of the records still kept."""
        return self.log.size_bytes

    async def append(self, record: bytes, on_commit: OnCommit) -> int:
        """Add an entry; returns its position."""
        return await self._writes.append(record, on_commit)

    async def read(self, after: int, upto: int, *, max_entries: int, max_bytes: int) -> list[Entry]:
        """Read committed entries in order, from memory where it reaches back far enough."""
        self._writer.check()
        upto = min(upto, self.top)
        if after >= upto:
            return []
        if after + 1 < self.oldest:
            raise PositionGone(self._store, self.name, after, self.oldest)
        if after + 1 >= self.log.tail.first:
            return self.log.tail.read(after, upto, max_entries=max_entries, max_bytes=max_bytes)
        on_disk = min(upto, self.log.on_disk)
        try:
            entries = await self._reader.run(
                lambda connection: read_entries(connection, self.log.id, after, on_disk, max_entries, max_bytes)
            )
        except DamagedEntry as damaged:
            problem = f"event {damaged.position} of {self.name} is damaged; clients that have missed it start anew"
            raise StoreDamaged(self._store, problem) from damaged
        # Trimmed since: the writer was faster than its message.
        if not entries or entries[0].position != after + 1:
            raise PositionGone(self._store, self.name, after, entries[0].position if entries else self.oldest)
        if entries[-1].position == on_disk < upto:
            # The newest are in memory only, or were when this began.
            entries_left, left = max_entries - len(entries), max_bytes - sum(len(one.record) for one in entries)
            more = await self.read(on_disk, upto, max_entries=entries_left, max_bytes=left)
            if more and len(more[0].record) <= left:
                entries += more
        return entries

    async def open_session(self, key: bytes, sid: str, data: bytes, on_commit: OnCommit) -> int:
        """Store a new, attached session; returns its start."""
        _check_names((sid,))
        work = partial(sessions.insert, store=self._store, journal=self.log.id, key=key, sid=sid, data=data)
        return await self._writes.begin(key, sid, len(data), work, on_commit)

    async def find_session(self, key: bytes) -> SessionRow | None:
        """Look up a session, by a job of the writer, so that it sees all that was asked for earlier."""
        self.write_proven()
        return await self._writes.ask(lambda tx: sessions.find(tx, self.log.id, key))

    async def sessions(self, max_sessions: int) -> list[SessionRow]:
        """Return some of the journal's sessions, by a job of the writer, so that it sees all earlier writes."""
        return await self._writes.ask(lambda tx: sessions.some(tx, self.log.id, max_sessions))

    async def attach_session(self, key: bytes, on_attach: Callable[[SessionRow], None]) -> SessionRow | None:
        """Mark a session as attached, so that it does not expire; returns it."""

        def attached(found: SessionRow | None) -> None:
            if found is not None:
                on_attach(found)

        self.write_proven()
        return await self._writes.attach(lambda tx: sessions.attach(tx, self.log.id, key), attached)

    async def detach_session(self, key: bytes, expires_at: float) -> None:
        """Mark a session as away until it expires, at a time of the store's in seconds."""
        await self._writes.change(lambda tx: sessions.mark(tx, self.log.id, key, expires_at), 0)

    async def end_session(self, key: bytes) -> None:
        """Forget a session at once."""
        await self._writes.end(key, lambda tx: sessions.end(tx, self.log.id, key))

    async def save_session(self, key: bytes, data: bytes) -> None:
        """Replace a session's data."""
        await self._writes.change(lambda tx: sessions.save(tx, self.log.id, key, data), len(data))

    async def note_stuck(self, key: bytes, position: int, times: int) -> None:
        """Replace what a session notes of an event beyond which its client did not get."""
        await self._writes.change(lambda tx: sessions.note_stuck(tx, self.log.id, key, position, times), 0)

    def expired(self, key: bytes) -> None:
        """Note that the store has removed a session whose time was over."""
        self._writes.expired(key)

    def prove(self, key: bytes, position: int, last: int) -> None:
        """Note that all entries up to a position have arrived; written with others about a second later."""
        self._writer.check()
        self._proven[key] = max((position, last), self._proven.get(key, (0, 0)))
        if self._prover is None:
            self._prover = self._writer.loop.call_later(_PROVE_AFTER_S, self.write_proven)

    def write_proven(self) -> None:
        """Write the notes of `prove` now."""
        if self._prover is not None:
            self._prover.cancel()
            self._prover = None
        if self._proven:
            proven, self._proven = self._proven, {}
            self._writes.note(lambda tx: sessions.prove(tx, self.log.id, proven))

    async def join(self, key: bytes, rooms: Collection[str], on_commit: OnCommit) -> None:
        """Let a session join rooms for all entries from here on."""
        joined = {*rooms}
        size = _check_names(joined)
        await self._writes.place(lambda tx: sessions.join(tx, self.log.id, key, joined), size, on_commit)

    async def leave(self, key: bytes, rooms: Collection[str], on_commit: OnCommit) -> None:
        """Let a session leave rooms for all entries from here on."""
        left = {*rooms}
        size = _check_names(left)
        await self._writes.place(lambda tx: sessions.leave(tx, self.log.id, key, left), size, on_commit)

    async def join_matching(
        self, rooms: Collection[str] | None, except_: Collection[str], joined: Collection[str], on_commit: OnCommit
    ) -> None:
        """Let all sessions that match join rooms for all entries from here on."""
        await self._move(join_matching, rooms, except_, joined, on_commit)

    async def leave_matching(
        self, rooms: Collection[str] | None, except_: Collection[str], left: Collection[str], on_commit: OnCommit
    ) -> None:
        """Let all sessions that match leave rooms for all entries from here on."""
        await self._move(leave_matching, rooms, except_, left, on_commit)

    async def end_matching(
        self,
        rooms: Collection[str] | None,
        except_: Collection[str],
        on_end: Callable[[Collection[ExpiredSession]], None],
        *,
        note: bytes = b"",
    ) -> None:
        """Forget all sessions that match at once."""

        def ended(rows: list[tuple[bytes, str, bytes]]) -> None:
            for key, _, _ in rows:
                self._writes.expired(key)
            on_end([ExpiredSession(self.name, sid, data) for _, sid, data in rows])

        matching = _matching(self.log.id, rooms, except_)
        await self._writes.attach(lambda tx: end_matching(tx, matching), ended)

    def follow(self, follower: Follower) -> None:
        """Set what applies the writes of other programs; no other node writes to the file."""
        self._follower = follower

    def arrived(self, write: OutsideWrite, keys: Collection[bytes], ended: list[ExpiredSession]) -> None:
        """Note a write of another program that was done in the file, in the order of commits.

        Args:
            write: The write.
            keys: The keys of the sessions that it has ended.
            ended: These sessions.
        """
        position = self.log.committed(write.content) if write.kind == "emit" else self.log.top
        for key in keys:
            self._writes.expired(key)
        self._tell(write, position, ended)

    async def do_write(self, write: OutsideWrite) -> None:
        """Do a write of another program, where writes are reported before they are on disk."""

        def told(position: int) -> None:
            self._tell(write, position, [])

        match write.kind:
            case "emit":
                await self.append(write.content, told)
            case "join":
                await self.join_matching(write.rooms, write.except_, write.moved, told)
            case "leave":
                await self.leave_matching(write.rooms, write.except_, write.moved, told)
            case "end":
                await self.end_matching(
                    write.rooms, write.except_, lambda ended: self._tell(write, self.top, [*ended])
                )

    def _tell(self, write: OutsideWrite, position: int, ended: list[ExpiredSession]) -> None:
        if self._follower is not None:
            tell_follower(self._follower, write, position, ended)

    async def claim_session(self, key: bytes) -> bytes:
        """Return at once: no other node has a session."""
        return b""

    async def release_session(self, key: bytes, handed: bytes) -> None:
        """Do nothing: no other node waits for a session."""

    async def is_followed(self) -> bool:
        """Return whether the journal has sessions, after all earlier writes."""
        return await self._writes.ask(lambda tx: dropping.is_followed(tx, self.name))

    async def finish(self) -> None:
        """Accept no more writes, and pass all pending ones to the writer."""
        await self._writes.finish()

    async def _move(
        self,
        move: Callable[[Transaction, Matching, Collection[str]], int],
        rooms: Collection[str] | None,
        except_: Collection[str],
        moved: Collection[str],
        on_commit: OnCommit,
    ) -> None:
        matching = _matching(self.log.id, rooms, except_)
        names = {*moved}
        size = sum(_check_names(part) for part in (matching.rooms or (), matching.except_, names))
        await self._writes.place(lambda tx: move(tx, matching, names), size, on_commit)


async def load_journal(
    store: str, name: str, writer: Writer, reader: Reader, *, tail_bytes: int, deferred: bool
) -> SqliteJournal:
    """Load a journal from the file, or create it there; its newest records are kept in memory.

    Args:
        store: The store, as errors name it.
        name: The journal's name.
        writer: Writes to the file.
        reader: Reads from the file.
        tail_bytes: The bytes of its newest records that memory keeps.
        deferred: Whether its writes are reported before they are on disk.
    """
    row = await writer.submit(partial(_find_or_insert, name=name, reserves=deferred))
    log = await load_log(row, reader, tail_bytes=tail_bytes, holds=deferred)
    writes: Writes = CommittedWrites(log, writer)
    if deferred:
        keys = await reader.run(lambda connection: sessions.keys(connection, log.id))
        writes = DeferredWrites(store, log, writer, row.top + BLOCK, keys)
    return SqliteJournal(store, name, log, writes, writer, reader)


def _find_or_insert(tx: Transaction, name: str, reserves: bool) -> Row:
    tx.entries.flush()
    generation = new_generation()
    inserted = tx.connection.execute(
        "INSERT INTO journal (name, generation, oldest, top, bytes) VALUES (?, ?, 1, 0, 0) "
        "ON CONFLICT (name) DO NOTHING",
        (name, generation),
    )
    (found,) = tx.connection.execute("SELECT id, oldest FROM journal WHERE name = ?", (name,)).fetchall()
    journal, oldest = found
    if not ends_certainly(tx.connection, journal):
        oldest = begin_beyond(tx, journal, tx.entries.top(journal) + _BEYOND_DAMAGE)
        _logger.error(
            "%s: its newest events are damaged; a new generation begins, and all clients start anew",
            name,
            extra=fields(namespace=name),
        )
    top = tx.entries.top(journal)
    if not inserted.rowcount:
        begin_generation(tx, journal, generation, top)
    if reserves:
        reserve(tx, journal, top + BLOCK)
    return Row(journal, generation, top, oldest, tx.entries.total_bytes(journal), generation_ends(tx, journal))


def _matching(journal: int, rooms: Collection[str] | None, except_: Collection[str]) -> Matching:
    return Matching(journal, None if rooms is None else frozenset(rooms), frozenset(except_))


def _check_names(names: Collection[str]) -> int:
    """Return the size of names in bytes; raises `UnicodeError`, before anything is written, if one has none."""
    return sum(len(name.encode()) for name in names)
