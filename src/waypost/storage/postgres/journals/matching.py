"""Writes for all sessions that match, and what this node learns of sessions from the log."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import msgspec

from waypost.logs import get_logger
from waypost.storage.base import OnCommit
from waypost.storage.callbacks import report
from waypost.storage.following import Follower
from waypost.storage.journal_records import ExpiredSession
from waypost.storage.postgres.journals.claims import Claims
from waypost.storage.postgres.journals.heads import (
    SessionRowKind,
    read_claim,
    read_ended,
    read_moved,
    read_released,
)
from waypost.storage.postgres.journals.log import Done
from waypost.storage.postgres.journals.operations import Kind, Ordered, name_from, names_from, names_of, operation

__all__ = ["Matching"]

_logger = get_logger(__name__)


class _Ended(msgspec.Struct):
    """The result of the end of sessions.

    Attributes:
        ended: The sid and data of each session whose home is this node, or that has none.
        claimed: The keys of those that a node has claimed.
    """

    ended: list[tuple[str, str]]
    claimed: list[str]


class Matching:
    """Writes for all sessions of a journal that match; applies the log's rows that concern sessions.

    Args:
        journal: The journal.
        claims: The claims of this node for its sessions.

    Attributes:
        follower: What is told of other nodes' rows; ``None`` for nobody.
    """

    __slots__ = ("_claims", "_journal", "follower")

    def __init__(self, journal: Ordered, claims: Claims) -> None:
        self.follower: Follower | None = None
        self._journal = journal
        self._claims = claims

    async def join(
        self, rooms: Collection[str] | None, except_: Collection[str], joined: Collection[str], on_commit: OnCommit
    ) -> None:
        """Let all matching sessions join rooms for all later entries."""
        await self._move(Kind.JOIN_MATCHING, rooms, except_, joined, on_commit)

    async def leave(
        self, rooms: Collection[str] | None, except_: Collection[str], left: Collection[str], on_commit: OnCommit
    ) -> None:
        """Let all matching sessions leave rooms for all later entries."""
        await self._move(Kind.LEAVE_MATCHING, rooms, except_, left, on_commit)

    async def end(
        self,
        rooms: Collection[str] | None,
        except_: Collection[str],
        on_end: Callable[[Collection[ExpiredSession]], None],
        note: bytes,
    ) -> None:
        """Remove all matching sessions at once; each node is told of its own."""

        def ended(done: Done) -> None:
            result = msgspec.convert(done.result, _Ended)
            self._let_go(result.claimed)
            report(on_end, self._sessions(result.ended))

        write = operation(Kind.END_MATCHING, rooms=names_of(rooms), except_=names_of(except_), note=note.hex())
        await self._journal.write("end the matching sessions", write, ended)

    async def _move(
        self,
        kind: Kind,
        rooms: Collection[str] | None,
        except_: Collection[str],
        moved: Collection[str],
        on_commit: OnCommit,
    ) -> None:
        write = operation(kind, rooms=names_of(rooms), except_=names_of(except_), moved=names_of(moved))
        await self._journal.write("move the matching sessions", write, lambda done: report(on_commit, done.position))

    # -- the log ---------------------------------------------------------------------------------------------

    def apply(self, kind: int, head: bytes) -> None:
        """Apply a row that another node has written, or the engine itself.

        Args:
            kind: The row's kind, one of `SessionRowKind`.
            head: The row's head.
        """
        match kind:
            case SessionRowKind.JOINED | SessionRowKind.LEFT:
                self._moved(head, has_joined=kind == SessionRowKind.JOINED)
            case SessionRowKind.ENDED:
                self._ended(head)
            case SessionRowKind.CLAIM:
                self._claimed(head)
            case SessionRowKind.RELEASED:
                self._released(head)

    def _moved(self, head: bytes, *, has_joined: bool) -> None:
        row = read_moved(head)
        if self.follower is not None:
            tell = self.follower.joined if has_joined else self.follower.left
            _call(tell, names_from(row.rooms), names_from(row.except_), names_from(row.moved))

    def _ended(self, head: bytes) -> None:
        row = read_ended(head)
        self._let_go(row.claimed)
        self._lose(row.lost)
        if self.follower is not None:
            sessions = self._sessions(row.homes.get(str(self._me), ()))
            note = bytes.fromhex(row.note)
            _call(self.follower.ended, names_from(row.rooms), names_from(row.except_), sessions, note)

    def _claimed(self, head: bytes) -> None:
        row = read_claim(head)
        key = bytes.fromhex(row.key)
        if row.claimer != self._me:
            self._claims.void(key)
        if row.asked == self._me and self.follower is not None:
            _call(self.follower.claimed, key)

    def _released(self, head: bytes) -> None:
        row = read_released(head)
        for key, handed in row.released or ():
            self._claims.answer(bytes.fromhex(key), bytes.fromhex(handed))
        self._lose(row.lost)

    def _lose(self, lost: Iterable[tuple[str, int]] | None) -> None:
        """End the lives of sessions that this node has lost while it was thought to be dead."""
        for key, home in lost or ():
            if home == self._me and self.follower is not None:
                _call(self.follower.claimed, bytes.fromhex(key))

    def _let_go(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._claims.answer(bytes.fromhex(key), b"")

    def _sessions(self, ended: Iterable[tuple[str, str]]) -> list[ExpiredSession]:
        return [ExpiredSession(self._journal.name, name_from(sid), bytes.fromhex(data)) for sid, data in ended]

    @property
    def _me(self) -> int:
        return self._journal.engine.identity.id


def _call(tell: Callable[..., None], *row: Any) -> None:
    try:
        tell(*row)
    except Exception:
        _logger.exception("a follower raised, which it must not")
