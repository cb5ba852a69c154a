"""One journal of a `RemoteStore`: its state is what this node has applied."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Any

import msgspec

from waypost.errors import PositionGone
from waypost.storage.base import OnCommit
from waypost.storage.callbacks import report
from waypost.storage.clock import StoreClock
from waypost.storage.following import Follower
from waypost.storage.journal_records import Entry, ExpiredSession, SessionRow
from waypost.storage.remote.connection import Call, Connection
from waypost.storage.wire import reports, requests
from waypost.storage.wire.calls import JOURNAL

__all__ = ["RemoteJournal"]

_FOUND = msgspec.msgpack.Decoder(SessionRow | None)
_ENDED = msgspec.msgpack.Decoder(list[ExpiredSession])
_HANDED = msgspec.msgpack.Decoder(bytes)


class _Append:
    """An append that waits for its position; see `connection.Pending`."""

    __slots__ = ("_journal", "_on_commit", "_size", "future")

    def __init__(self, journal: RemoteJournal, size: int, on_commit: OnCommit, future: asyncio.Future[int]) -> None:
        self._journal = journal
        self._size = size
        self._on_commit = on_commit
        self.future = future

    @property
    def what(self) -> str:
        return f"append an event to {self._journal.name}"

    def done(self, position: int) -> None:
        self._journal.apply(position, self._size)
        report(self._on_commit, position)
        if not self.future.done():
            self.future.set_result(position)

    def answered(self, result: msgspec.Raw) -> None:
        """Never answered: the report is its position."""


class _Placed:
    """A write whose report is the journal's top; see `connection.Pending`."""

    __slots__ = ("_on_commit", "future", "what")

    def __init__(self, what: str, on_commit: OnCommit, future: asyncio.Future[int]) -> None:
        self.what: str | None = what
        self._on_commit = on_commit
        self.future = future

    def done(self, position: int) -> None:
        report(self._on_commit, position)
        if not self.future.done():
            self.future.set_result(position)

    def answered(self, result: msgspec.Raw) -> None:
        """Never answered: the report is a position."""


class RemoteJournal:
    """One journal of a `RemoteStore`; see `waypost.storage.base.Journal`.

    Args:
        name: The journal's name.
        opened: Where it stands.
        connection: The way to the host.
        clock: This node's clock of the store.

    Attributes:
        name: The journal's name.
        generation: The name of its history.
        ends: The last position of each earlier generation.
        top: The position of the last entry that this node has applied.
        oldest: The oldest position that is kept, as far as this node has applied what others did.
        size_bytes: The size of the records that are kept.
        number: Its number on the link.
        follower: What applies the rows of other nodes.
    """

    __slots__ = (
        "_clock",
        "_connection",
        "ends",
        "follower",
        "generation",
        "name",
        "number",
        "oldest",
        "size_bytes",
        "top",
    )

    def __init__(self, name: str, opened: reports.Opened, connection: Connection, clock: StoreClock) -> None:
        self.name = name
        self.number = opened.number
        self.generation = opened.generation
        self.ends: Mapping[str, int] = opened.ends
        self.top = opened.top
        self.oldest = opened.oldest
        self.size_bytes = opened.size_bytes
        self.follower: Follower | None = None
        self._connection = connection
        self._clock = clock

    def apply(self, position: int, size: int) -> None:
        """Note the next entry."""
        self.top = position
        self.size_bytes += size

    def kept(self, oldest: int, size_bytes: int) -> None:
        """Note what is kept after others were removed."""
        self.oldest = oldest
        self.size_bytes = size_bytes

    # -- entries ---------------------------------------------------------------------------------------------

    async def append(self, record: bytes, on_commit: OnCommit) -> int:
        """Append an entry; returns its position."""
        connection = self._connection
        call = connection.next_call()
        pending = _Append(self, len(record), on_commit, connection.new_future())
        position: int = await connection.ask(call, requests.Append(call, self.number, record), pending)
        return position

    async def read(self, after: int, upto: int, *, max_entries: int, max_bytes: int) -> list[Entry]:
        """Read entries that this node has applied."""
        self._connection.check()
        upto = min(upto, self.top)
        if after >= upto:
            return []
        if after + 1 < self.oldest:
            raise PositionGone(self._connection.store, self.name, after, self.oldest)
        found: list[Entry] = await self._plain("read", after, upto, max_entries, max_bytes)
        return found

    # -- sessions --------------------------------------------------------------------------------------------

    async def open_session(self, key: bytes, sid: str, data: bytes, on_commit: OnCommit) -> int:
        """Store a new, attached session, whose home is this node; returns its start."""
        connection = self._connection
        call = connection.next_call()
        request = requests.OpenSession(call, self.number, key, sid, data)
        start: int = await self._place(call, request, "open a session", on_commit)
        return start

    async def find_session(self, key: bytes) -> SessionRow | None:
        """Look up a session, after all earlier writes."""
        found: SessionRow | None = await self._plain("find_session", key)
        return found

    async def sessions(self, max_sessions: int) -> list[SessionRow]:
        """Return some of the journal's sessions, after all earlier writes."""
        found: list[SessionRow] = await self._plain("sessions", max_sessions)
        return found

    async def attach_session(self, key: bytes, on_attach: Callable[[SessionRow], None]) -> SessionRow | None:
        """Mark a session as attached, so that it does not expire; this node is its home."""

        def attached(found: SessionRow | None) -> None:
            if found is not None:
                on_attach(found)

        call = self._connection.next_call()
        pending = Call(self._connection.new_future(), _FOUND.decode, "attach a session", attached)
        request = requests.AttachSession(call, self.number, key)
        found: SessionRow | None = await self._connection.ask(call, request, pending)
        return found

    async def detach_session(self, key: bytes, expires_at: float) -> None:
        """Mark a session as away until it expires, at a time of the store's in seconds."""
        # The host adds its own clock: the session's time does not run while the request waits for the host.
        await self._change("detach_session", key, expires_at - self._clock.now())

    async def end_session(self, key: bytes) -> None:
        """Remove a session at once."""
        await self._change("end_session", key)

    async def save_session(self, key: bytes, data: bytes) -> None:
        """Replace a session's data."""
        await self._change("save_session", key, data)

    async def note_stuck(self, key: bytes, position: int, times: int) -> None:
        """Replace what a session notes of an event beyond which its client did not get."""
        await self._change("note_stuck", key, position, times)

    def prove(self, key: bytes, position: int, last: int) -> None:
        """Note that all entries up to a position have arrived."""
        self._connection.send(requests.Prove(self.number, key, position, last))

    async def join(self, key: bytes, rooms: Collection[str], on_commit: OnCommit) -> None:
        """Let a session join rooms for all later entries."""
        await self._move(key, rooms, on_commit, joins=True)

    async def leave(self, key: bytes, rooms: Collection[str], on_commit: OnCommit) -> None:
        """Let a session leave rooms for all later entries."""
        await self._move(key, rooms, on_commit, joins=False)

    # -- sessions that match ---------------------------------------------------------------------------------

    async def join_matching(
        self, rooms: Collection[str] | None, except_: Collection[str], joined: Collection[str], on_commit: OnCommit
    ) -> None:
        """Let all matching sessions join rooms for all later entries."""
        await self._move_matching(rooms, except_, joined, on_commit, joins=True)

    async def leave_matching(
        self, rooms: Collection[str] | None, except_: Collection[str], left: Collection[str], on_commit: OnCommit
    ) -> None:
        """Let all matching sessions leave rooms for all later entries."""
        await self._move_matching(rooms, except_, left, on_commit, joins=False)

    async def end_matching(
        self,
        rooms: Collection[str] | None,
        except_: Collection[str],
        on_end: Callable[[Collection[ExpiredSession]], None],
        *,
        note: bytes = b"",
    ) -> None:
        """Remove all matching sessions at once; each node is told of its own."""
        call = self._connection.next_call()
        names = None if rooms is None else [*rooms]
        request = requests.EndMatching(call, self.number, names, [*except_], note)
        pending = Call(self._connection.new_future(), _ENDED.decode, "end the matching sessions", on_end)
        await self._connection.ask(call, request, pending)

    # -- several nodes ---------------------------------------------------------------------------------------

    def follow(self, follower: Follower) -> None:
        """Set what applies the rows of other nodes."""
        self.follower = follower

    async def claim_session(self, key: bytes) -> bytes:
        """Wait until no other node has a life of a session; returns what its earlier home has handed over.

        Raises:
            StorageError: A third node has claimed the session since.
        """
        call = self._connection.next_call()
        pending = Call(self._connection.new_future(), _HANDED.decode, None)
        handed: bytes = await self._connection.ask(call, requests.ClaimSession(call, self.number, key), pending)
        return handed

    async def release_session(self, key: bytes, handed: bytes) -> None:
        """Note that this node has no life of a session any more, after all earlier writes for it."""
        call = self._connection.next_call()
        pending = Call(self._connection.new_future(), _nothing, "release a session")
        await self._connection.ask(call, requests.ReleaseSession(call, self.number, key, handed), pending)

    # -- how -------------------------------------------------------------------------------------------------

    def _plain(self, method: str, *arguments: Any) -> Any:
        return self._connection.plain(JOURNAL[method], self.number, *arguments, changes=False)

    def _place(self, call: int, request: object, what: str, on_commit: OnCommit) -> asyncio.Future[Any]:
        pending = _Placed(f"{what} in {self.name}", on_commit, self._connection.new_future())
        return self._connection.ask(call, request, pending)

    async def _change(self, method: str, key: bytes, *arguments: Any) -> None:
        call = self._connection.next_call()
        pending = Call(self._connection.new_future(), _nothing, f"{method} in {self.name}")
        request = requests.ChangeSession(call, self.number, key, method, arguments)
        await self._connection.ask(call, request, pending)

    async def _move(self, key: bytes, rooms: Collection[str], on_commit: OnCommit, *, joins: bool) -> None:
        call = self._connection.next_call()
        request = requests.MoveSession(call, self.number, key, [*rooms], joins)
        await self._place(call, request, "join rooms" if joins else "leave rooms", on_commit)

    async def _move_matching(
        self,
        rooms: Collection[str] | None,
        except_: Collection[str],
        moved: Collection[str],
        on_commit: OnCommit,
        *,
        joins: bool,
    ) -> None:
        call = self._connection.next_call()
        names = None if rooms is None else [*rooms]
        request = requests.MoveMatching(call, self.number, names, [*except_], [*moved], joins)
        await self._place(call, request, "move the matching sessions", on_commit)


def _nothing(_: msgspec.Raw) -> None:
    """Decode the result of a call without one."""
