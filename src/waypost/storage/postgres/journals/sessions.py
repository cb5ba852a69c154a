"""The sessions of one journal: their lives, their rooms, and what they have proven."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from waypost.errors import StorageError
from waypost.logs import get_logger
from waypost.storage.base import OnCommit
from waypost.storage.callbacks import report
from waypost.storage.journal_records import SessionRow
from waypost.storage.postgres.journals.claims import Claims, claim_is_void
from waypost.storage.postgres.journals.finding import Finder, read_session
from waypost.storage.postgres.journals.log import Done, Operation
from waypost.storage.postgres.journals.operations import Kind, Ordered, names_of, operation

__all__ = ["Sessions"]

_logger = get_logger(__name__)

_PROVE_AFTER_S = 1.0
"""What `prove` notes is written this much later, with all that was noted meanwhile."""

_IN_USE = {"error": "WP003"}
_VOID = {"error": "WP002"}


class Sessions:
    """The sessions of one journal; see `waypost.storage.base.Journal`.

    Args:
        journal: The journal.

    Attributes:
        claims: The claims of this node that wait.
    """

    __slots__ = ("_finder", "_journal", "_proven", "_prover", "claims")

    def __init__(self, journal: Ordered) -> None:
        self.claims = Claims(journal)
        self._journal = journal
        self._finder = Finder(journal)
        self._proven: dict[bytes, tuple[int, int]] = {}
        self._prover: asyncio.TimerHandle | None = None

    async def open(self, key: bytes, sid: str, data: bytes, on_commit: OnCommit) -> int:
        """Store a new, attached session, whose home is this node; returns its start."""

        def opened(done: Done) -> None:
            if done.result != _IN_USE:
                report(on_commit, done.position)

        write = operation(Kind.OPEN, key, data, sid=sid.encode().hex())
        done = await self._journal.write("open a session", write, opened)
        if done.result == _IN_USE:
            raise StorageError(self._journal.engine.name, f"session {sid} is stored already")
        return done.position

    async def find(self, key: bytes) -> SessionRow | None:
        """Look up a session, after all earlier writes of all nodes."""
        self.write_proven()
        return await self._finder.find(key)

    async def some(self, most: int) -> list[SessionRow]:
        """Return some of the journal's sessions, after all earlier writes."""
        self.write_proven()
        return await self._finder.some(most)

    async def attach(self, key: bytes, on_attach: Callable[[SessionRow], None]) -> SessionRow | None:
        """Mark a session as attached, so that it does not expire; this node is its home."""
        found: SessionRow | None = None

        def attached(done: Done) -> None:
            nonlocal found
            if done.result == _VOID:
                return
            self.claims.answer(key, b"")
            if done.result:
                found = read_session(key, done.result, done.data)
                report(on_attach, found)

        self.write_proven()
        done = await self._journal.write("attach a session", operation(Kind.ATTACH, key), attached)
        if done.result == _VOID:
            raise claim_is_void(self._journal.engine.name)
        return found

    async def detach(self, key: bytes, expires_at: float) -> None:
        """Mark a session as away until it expires, at a time of the store's in seconds; or give up a claim for it."""

        def detached(_: Done) -> None:
            self.claims.answer(key, b"")

        self.write_proven()
        after_s = expires_at - self._journal.engine.clock.now()
        await self._journal.write("detach a session", operation(Kind.DETACH, key, after=after_s), detached)

    async def release(self, key: bytes, handed: bytes) -> None:
        """Note that this node has no life of a session any more, after all earlier writes for it."""
        self.write_proven()
        await self._change("release a session", operation(Kind.RELEASE, key, handed))

    async def end(self, key: bytes) -> None:
        """Remove a session at once."""
        await self._change("end a session", operation(Kind.END, key))

    async def save(self, key: bytes, data: bytes) -> None:
        """Replace a session's data."""
        await self._change("save a session", operation(Kind.SAVE, key, data))

    async def note_stuck(self, key: bytes, position: int, times: int) -> None:
        """Replace what a session notes of an event beyond which its client did not get."""
        write = operation(Kind.NOTE_STUCK, key, at=position, times=times)
        await self._change("note what a client gets no further than", write)

    async def join(self, key: bytes, rooms: Collection[str], on_commit: OnCommit) -> None:
        """Let a session join rooms for all later entries."""
        write = operation(Kind.JOIN, key, rooms=names_of(rooms))
        await self._journal.write("join rooms", write, lambda done: report(on_commit, done.position))

    async def leave(self, key: bytes, rooms: Collection[str], on_commit: OnCommit) -> None:
        """Let a session leave rooms for all later entries."""
        write = operation(Kind.LEAVE, key, rooms=names_of(rooms))
        await self._journal.write("leave rooms", write, lambda done: report(on_commit, done.position))

    async def _change(self, words: str, operation: Operation) -> None:
        await self._journal.write(words, operation, lambda _: None)

    # -- what clients have proven ----------------------------------------------------------------------------

    def prove(self, key: bytes, position: int, last: int) -> None:
        """Note that all entries up to a position have arrived; written with others about a second later."""
        self._proven[key] = max((position, last), self._proven.get(key, (0, 0)))
        if self._prover is None:
            self._prover = asyncio.get_running_loop().call_later(_PROVE_AFTER_S, self.write_proven)

    def write_proven(self) -> None:
        """Write the notes of `prove` now."""
        if self._prover is not None:
            self._prover.cancel()
            self._prover = None
        if not self._proven:
            return
        proven, self._proven = self._proven, {}
        notes = [(key.hex(), position, last) for key, (position, last) in proven.items()]
        write = operation(Kind.PROVE, notes=notes)
        try:
            written = self._journal.write("note what has arrived", write, lambda _: None)
        except StorageError as problem:
            _warn(problem)
        else:
            written.add_done_callback(_heed)

    def close(self) -> None:
        """Write what was noted, and fail the claims that wait: the store is about to be closed."""
        self.write_proven()
        self.claims.close()


def _heed(written: asyncio.Future[Done]) -> None:
    if not written.cancelled() and (error := written.exception()):
        _warn(error)


def _warn(error: BaseException) -> None:
    # Clients prove more with each heartbeat, so what was not written now is made good by the next.
    _logger.warning("what sessions have proven was not written: %s", error)
