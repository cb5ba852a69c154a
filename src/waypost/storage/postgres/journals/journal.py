"""One journal of a `PostgresStore`: its state is what this node has applied."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping

from waypost.errors import PositionGone, StoreClosed, StoreDamaged
from waypost.storage.base import OnCommit
from waypost.storage.callbacks import report
from waypost.storage.following import Follower
from waypost.storage.journal_records import Entry, ExpiredSession, SessionRow
from waypost.storage.postgres.engine import Engine
from waypost.storage.postgres.journals.log import Done, Log, Operation
from waypost.storage.postgres.journals.matching import Matching
from waypost.storage.postgres.journals.reading import DamagedEntry, read_entries
from waypost.storage.postgres.journals.sessions import Sessions
from waypost.storage.postgres.journals.writing import LogWork
from waypost.storage.postgres.lanes import Write

__all__ = ["PostgresJournal"]


class PostgresJournal:
    """One journal of a `PostgresStore`; see `waypost.storage.base.Journal`.

    Args:
        engine: The engine.
        log: The journal's log.
        written: Called with the tick of the last row of each call that was done.
        busy: The journals that were written to, to which it adds itself.

    Attributes:
        engine: The engine.
        log: The journal's log.
        name: The journal's name.
    """

    __slots__ = ("_busy", "_is_closed", "_lane", "_matching", "_sessions", "engine", "log", "name")

    def __init__(
        self, engine: Engine, log: Log, written: Callable[[Log, int], None], busy: set[PostgresJournal]
    ) -> None:
        self.engine = engine
        self.log = log
        self.name = log.name
        self._busy = busy
        self._is_closed = False
        self._lane = engine.lane(LogWork(log, lambda tick: written(log, tick)))
        self._sessions = Sessions(self)
        self._matching = Matching(self, self._sessions.claims)
        log.sessions = self._matching

    @property
    def number(self) -> int:
        """The journal's number in the database."""
        return self.log.number

    @property
    def generation(self) -> str:
        """The name of its history."""
        return self.log.generation

    @property
    def ends(self) -> Mapping[str, int]:
        """The last position of each earlier generation."""
        return self.log.ends

    @property
    def top(self) -> int:
        """The position of the last entry that this node has applied."""
        return self.log.top

    @property
    def oldest(self) -> int:
        """The oldest position that is kept, as far as this node has applied what others did."""
        return self.log.oldest

    @property
    def size_bytes(self) -> int:
        """The size of the records that are kept."""
        return self.log.size - self.log.before

    # -- entries ---------------------------------------------------------------------------------------------

    async def append(self, record: bytes, on_commit: OnCommit) -> int:
        """Append an entry; returns its position."""

        def applied(done: Done) -> None:
            report(on_commit, done.position)

        future: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        self._busy.add(self)
        self._lane.add(Write(f"append an event to {self.name}", record, applied, future, len(record)))
        return (await future).position

    async def read(self, after: int, upto: int, *, max_entries: int, max_bytes: int) -> list[Entry]:
        """Read entries that this node has applied, from memory where it reaches back far enough."""
        if self._is_closed:
            raise StoreClosed(self.engine.name)
        log = self.log
        upto = min(upto, log.top)
        if after >= upto:
            return []
        if after + 1 < log.oldest:
            raise PositionGone(self.engine.name, self.name, after, log.oldest)
        if after + 1 >= log.tail.first:
            return log.tail.read(after, upto, max_entries=max_entries, max_bytes=max_bytes)
        try:
            entries = await self.engine.read(
                lambda connection: read_entries(connection, log.number, after, upto, max_entries, max_bytes)
            )
        except DamagedEntry as damaged:
            problem = f"event {damaged.position} of {self.name} is damaged; clients that have missed it start anew"
            raise StoreDamaged(self.engine.name, problem) from damaged
        if not entries:
            # Trimmed by another node, whose row of it is on its way; or it is missing.
            await log.wait_for(await self._end())
            if after + 1 < log.oldest:
                raise PositionGone(self.engine.name, self.name, after, log.oldest)
            problem = f"event {after + 1} of {self.name} is missing; clients that have missed it start anew"
            raise StoreDamaged(self.engine.name, problem)
        return entries

    async def _end(self) -> int:
        query = "SELECT o_tick FROM waypost.log_end_1($1)"
        tick: int = await self.engine.read(lambda connection: connection.value(query, self.number))
        return tick

    # -- sessions --------------------------------------------------------------------------------------------

    async def open_session(self, key: bytes, sid: str, data: bytes, on_commit: OnCommit) -> int:
        """Store a new, attached session, whose home is this node; returns its start."""
        return await self._sessions.open(key, sid, data, on_commit)

    async def find_session(self, key: bytes) -> SessionRow | None:
        """Look up a session, after all earlier writes of all nodes."""
        return await self._sessions.find(key)

    async def sessions(self, max_sessions: int) -> list[SessionRow]:
        """Return some of the journal's sessions, after all earlier writes."""
        return await self._sessions.some(max_sessions)

    async def attach_session(self, key: bytes, on_attach: Callable[[SessionRow], None]) -> SessionRow | None:
        """Mark a session as attached, so that it does not expire; this node is its home."""
        return await self._sessions.attach(key, on_attach)

    async def detach_session(self, key: bytes, expires_at: float) -> None:
        """Mark a session as away until it expires, at a time of the store's in seconds."""
        await self._sessions.detach(key, expires_at)

    async def end_session(self, key: bytes) -> None:
        """Remove a session at once."""
        await self._sessions.end(key)

    async def save_session(self, key: bytes, data: bytes) -> None:
        """Replace a session's data."""
        await self._sessions.save(key, data)

    async def note_stuck(self, key: bytes, position: int, times: int) -> None:
        """Replace what a session notes of an event beyond which its client did not get."""
        await self._sessions.note_stuck(key, position, times)

    def prove(self, key: bytes, position: int, last: int) -> None:
        """Note that all entries up to a position have arrived; written with others about a second later."""
        if self._is_closed:
            raise StoreClosed(self.engine.name)
        self._sessions.prove(key, position, last)

    async def join(self, key: bytes, rooms: Collection[str], on_commit: OnCommit) -> None:
        """Let a session join rooms for all later entries."""
        await self._sessions.join(key, rooms, on_commit)

    async def leave(self, key: bytes, rooms: Collection[str], on_commit: OnCommit) -> None:
        """Let a session leave rooms for all later entries."""
        await self._sessions.leave(key, rooms, on_commit)

    # -- sessions that match ---------------------------------------------------------------------------------

    async def join_matching(
        self, rooms: Collection[str] | None, except_: Collection[str], joined: Collection[str], on_commit: OnCommit
    ) -> None:
        """Let all matching sessions join rooms for all later entries."""
        await self._matching.join(rooms, except_, joined, on_commit)

    async def leave_matching(
        self, rooms: Collection[str] | None, except_: Collection[str], left: Collection[str], on_commit: OnCommit
    ) -> None:
        """Let all matching sessions leave rooms for all later entries."""
        await self._matching.leave(rooms, except_, left, on_commit)

    async def end_matching(
        self,
        rooms: Collection[str] | None,
        except_: Collection[str],
        on_end: Callable[[Collection[ExpiredSession]], None],
        *,
        note: bytes = b"",
    ) -> None:
        """Remove all matching sessions at once; each node is told of its own."""
        await self._matching.end(rooms, except_, on_end, note)

    # -- several nodes ---------------------------------------------------------------------------------------

    def follow(self, follower: Follower) -> None:
        """Set what applies the rows of other nodes."""
        self.log.follower = self._matching.follower = follower

    async def claim_session(self, key: bytes) -> bytes:
        """Wait until no other node has a life of a session; returns what its earlier home has handed over."""
        return await self._sessions.claims.claim(key)

    async def release_session(self, key: bytes, handed: bytes) -> None:
        """Note that this node has no life of a session any more, after all earlier writes for it."""
        await self._sessions.release(key, handed)

    # -- its writes ------------------------------------------------------------------------------------------

    def write(self, words: str, operation: Operation, applied: Callable[[Done], None]) -> asyncio.Future[Done]:
        """Ask for a write for sessions; see `Ordered`."""
        future: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        self._busy.add(self)
        size = len(operation.record) + len(operation.arguments)
        return self._lane.add(Write(f"{words} in {self.name}", operation, applied, future, size))

    @property
    def is_settled(self) -> bool:
        """Whether all writes that were asked for are done and applied, or have failed."""
        return self._lane.is_idle and self.log.own_end == 0

    async def settled(self) -> None:
        """Wait until all writes that were asked for are done and applied, or have failed. May be cancelled."""
        await self._lane.settled()
        await self.log.wait_for(self.log.own_end)

    async def caught_up(self, tick: int) -> None:
        """Wait until this node has applied the log up to a row. May be cancelled."""
        await self.log.wait_for(tick)

    async def close(self) -> None:
        """Take nothing more, and finish what was asked for."""
        if not self._is_closed:
            self._sessions.close()
            self._is_closed = True
            await self._lane.close()
            await self.log.wait_for(self.log.own_end)
