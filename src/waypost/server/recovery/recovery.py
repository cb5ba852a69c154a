"""Connection recovery: looks up a client's session and the events it missed.

A `Keeper` has the sessions of one namespace. `Keeper.look_up` decides whether a client with its private id and its
offset recovers. It recovers only if no event is missing; otherwise it gets the reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from waypost.errors import EncodingFailed, MalformedPacket, PositionGone, StorageError, StoreClosed, StoreDamaged
from waypost.logs import fields, get_logger
from waypost.protocol.codec import EncodedEvent
from waypost.protocol.offsets import Offset
from waypost.server.basics.handshake import Handshake
from waypost.server.basics.targets import Target
from waypost.server.recovery.absences import Absences
from waypost.server.recovery.damage import Damage
from waypost.server.recovery.live_session import LiveSession, session_key
from waypost.server.recovery.lost_history import LostHistory
from waypost.server.recovery.options import Recovery
from waypost.server.recovery.replay_cache import ReplayCache
from waypost.server.recovery.snapshot import Snapshot
from waypost.server.recovery.stuck import Undeliverable, is_stuck
from waypost.server.services import Services
from waypost.storage.base import Journal
from waypost.storage.journal_records import Membership, SessionRow

__all__ = ["Keeper", "RecoveryOutcome", "RecoveryReason", "Returning"]

logger = get_logger("waypost.recovery")

_PAGE_ENTRIES = 256
_PAGE_BYTES = 256 << 10
_CACHE_BYTES = 16 << 20


class RecoveryReason(StrEnum):
    """The reasons why a client starts a new session instead of recovering; sent in the answer to CONNECT."""

    UNKNOWN = "unknown session"
    EXPIRED = "expired"
    REFUSED = "refused"
    GENERATION = "generation"
    RETENTION = "retention"
    TOO_FAR = "too far"
    UNDELIVERABLE = "undeliverable"
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class RecoveryOutcome:
    """The result of a client's attempt to recover.

    Attributes:
        reason: The reason for a new session; ``None`` if the client recovered, or did not ask to.
        replayed: The number of missed events that are replayed to the client.
    """

    reason: RecoveryReason | None
    replayed: int


@dataclass(frozen=True, slots=True)
class Missed:
    """An event that a client has missed.

    Attributes:
        position: The event's position in the journal.
        event: The event, shared by all clients that missed it.
    """

    position: int
    event: EncodedEvent


@dataclass(frozen=True, slots=True)
class Returning:
    """A client that recovers.

    Attributes:
        pid: Its private id, a secret.
        stored: Its stored session.
        seen: The position of the last event that it certainly has.
        top: The position up to which ``missed`` is complete.
        missed: The events for the client after ``seen``, in order.
    """

    pid: str
    stored: SessionRow
    seen: int
    top: int
    missed: list[Missed]


class Keeper:
    """The sessions of one namespace.

    Args:
        journal: The namespace's journal.
        options: The recovery options.
        services: The services that the server's parts share.
        turns: Limits the concurrent replays of the whole server.
        absences: The sessions whose clients are away, of the whole server.

    Attributes:
        journal: The namespace's journal.
        absences: The sessions whose clients are away, of the whole server.
        turns: Limits the concurrent replays of the whole server.
        counters: The server's counters.
    """

    def __init__(
        self,
        journal: Journal,
        options: Recovery,
        services: Services,
        turns: asyncio.Semaphore,
        absences: Absences,
    ) -> None:
        self.journal = journal
        self.absences = absences
        self._turns = turns
        self.counters = services.counters
        self._options = options
        self._environment = services.environment
        self._clock = services.store.clock
        self._ending: set[bytes] = set()
        # A node may come to a store that others have had open for long; the generations tell when it was opened.
        opened_at = journal.top if services.store.nodes is None else max(journal.ends.values(), default=0)
        self._lost_history = LostHistory(journal, opened_at, services)
        self._cache = ReplayCache(journal.name, services.codec, _CACHE_BYTES)
        self._damage = Damage(journal.name)

    def new_session(
        self, sid: str, data: dict[str, Any], handshake: Handshake, stale_offset: str | None
    ) -> LiveSession:
        """Make the session of a new client. The caller stores it.

        Args:
            sid: The socket's id.
            data: The application's data.
            handshake: The client's handshake.
            stale_offset: The offset that the client sent, which belongs to another session.
        """
        kept = self._kept(handshake)
        pid = self._environment.new_id()
        try:
            return LiveSession(pid, self.journal, Snapshot(data, kept, stale_offset))
        except TypeError as problem:
            logger.error(
                "socket.data of %s is not kept for recovery: %s",
                sid,
                problem,
                extra=fields(sid=sid, namespace=self.journal.name),
            )
            return LiveSession(pid, self.journal, Snapshot({}, kept, stale_offset))

    def resume(self, returning: Returning, handshake: Handshake) -> LiveSession:
        """Make the live session of a client that recovers."""
        earlier = Snapshot.decode(returning.stored.data)
        snapshot = Snapshot(earlier.data, self._kept(handshake), earlier.stale_offset)
        return LiveSession(returning.pid, self.journal, snapshot)

    def _kept(self, handshake: Handshake) -> Handshake | None:
        # Headers and auth are secrets: the store gets them only if `may_resume` needs them.
        return handshake if self._options.may_resume is not None else None

    def count_away(self, key: bytes, site: str | None, give_up: Callable[[], object]) -> None:
        """Count a session whose client is away, for the limit on those of one address; see `Absences.left`."""
        now = self._clock.now()
        self.absences.left(key, site, now, now + self._options.session_ttl_s, give_up)

    async def detach(self, key: bytes, sid: str | None, *, is_given_up: bool = False) -> bool:
        """Keep a session for a client that may come back.

        Args:
            key: The session's key.
            sid: The socket's id, for the log; ``None`` if it is not at hand.
            is_given_up: Whether to keep it only until the server's upkeep looks for ended sessions.

        Returns:
            False if the store failed and must be asked again.
        """
        try:
            expires_at = self._clock.now() + (0 if is_given_up else self._options.session_ttl_s)
            await self.journal.detach_session(key, expires_at)
        except StoreClosed:
            return True  # the next `Store.open` marks it
        except StorageError as problem:
            return self._not_yet("is not marked as away", sid, problem)
        return True

    async def release(self, key: bytes, sid: str | None, handed: bytes) -> bool:
        """Let another node have a session.

        Args:
            key: The session's key.
            sid: The socket's id, for the log; ``None`` if it is not at hand.
            handed: What that node gets.

        Returns:
            False if the store failed and must be asked again.
        """
        try:
            await self.journal.release_session(key, handed)
        except StoreClosed:
            return True
        except StorageError as problem:
            return self._not_yet("is not handed over", sid, problem)
        return True

    async def end(self, key: bytes, sid: str | None) -> bool:
        """Remove a session whose client does not come back to it.

        From the first attempt on, no client can recover it.

        Args:
            key: The session's key.
            sid: The socket's id, for the log; ``None`` if it is not at hand.

        Returns:
            False if the store failed and must be asked again.
        """
        self._ending.add(key)
        try:
            await self.journal.end_session(key)
        except StoreClosed:
            return True
        except StorageError as problem:
            return self._not_yet("is not ended", sid, problem)
        self._ending.discard(key)
        return True

    async def note_stuck(self, key: bytes, sid: str, position: int, times: int) -> bool:
        """Note that a client did not get beyond an event, on so many connections.

        Returns:
            False if the store failed and must be asked again.
        """
        try:
            await self.journal.note_stuck(key, position, times)
        except StoreClosed:
            return True
        except StorageError as problem:
            return self._not_yet("is not noted as one that gets no further", sid, problem)
        return True

    def _not_yet(self, what: str, sid: str | None, problem: StorageError) -> bool:
        """Log that a session is not changed yet, and return False."""
        logger.error(
            "the session of socket %s %s yet: %s",
            sid or "(unknown)",
            what,
            problem,
            extra=fields(sid=sid or None, namespace=self.journal.name),
        )
        return False

    async def look_up(
        self, pid: str, offset: str | None, handshake: Handshake
    ) -> Returning | Undeliverable | RecoveryReason:
        """Find out whether a client recovers, and which events it has missed up to now. May be cancelled.

        Args:
            pid: The private id that the client sent.
            offset: The offset of the last event that the client has; ``None`` without one.
            handshake: The client's current handshake.

        Returns:
            The session and the missed events, or the reason why the client can't recover.

        Raises:
            StorageError: The store did not answer.
        """
        seen = None if offset is None else Offset.parse(offset)
        # The stored rooms are complete up to this position. `Ownership.take_over` finds later changes.
        top = self.journal.top
        try:
            async with self._turns:
                stored = await self.journal.find_session(session_key(pid))
        except StoreDamaged as problem:
            self._damage.tell("a session", problem)
            return RecoveryReason.DAMAGED
        if stored is None or stored.key in self._ending:
            return (
                RecoveryReason.UNKNOWN
                if offset is None or (seen and self._knows(seen))
                else RecoveryReason.GENERATION
            )
        if stored.expired:
            return RecoveryReason.EXPIRED
        try:
            snapshot = Snapshot.decode(b"" if stored.damaged else stored.data)
        except MalformedPacket:
            self._damage.tell(f"the session of socket {stored.sid}", "it is not what was stored")
            return RecoveryReason.DAMAGED
        if not await self._may_resume(snapshot, handshake):
            return RecoveryReason.REFUSED
        last = stored.start
        if offset is not None and offset != snapshot.stale_offset:
            if seen is None or not self._knows(seen):
                self._lost_history.note(stored, offset, handshake)
                return RecoveryReason.GENERATION
            last = max(last, seen.position)
        if self._lost_history.may_have_missed(stored):
            return RecoveryReason.GENERATION
        # A pong proves that the client's engine got the frames, but its socket may have ignored them (disconnected by
        # the application, or a handler threw). If the client has the last event before the pong, it ignored none.
        after = max(last, stored.proven) if last >= stored.last else last
        top = max(top, after)
        if is_stuck(stored, last) and (stuck := await self._stuck(stored)) is not None:
            return stuck
        missed = await self.collect(stored, after, top, in_turns=True)
        return Returning(pid, stored, last, top, missed) if isinstance(missed, list) else missed

    async def _stuck(self, stored: SessionRow) -> Undeliverable | None:
        """Return the event beyond which a client does not get; ``None`` if it is no longer kept."""
        position = stored.stuck_at
        try:
            async with self._turns:
                (entry,) = await self.journal.read(position - 1, position, max_entries=1, max_bytes=1)
        except (PositionGone, StoreDamaged):
            return None
        return self._undeliverable(stored, position, self._cache.read(entry)[1], stored.stuck_times)

    def _undeliverable(
        self, stored: SessionRow, position: int, event: EncodedEvent | EncodingFailed, tries: int
    ) -> Undeliverable:
        offset = f"{self.journal.generation}.{position}"
        if isinstance(event, EncodingFailed):
            return Undeliverable(stored, event.what, offset, 0, 0)
        return Undeliverable(stored, event.event, offset, event.size, tries)

    def _knows(self, seen: Offset) -> bool:
        """Return whether an offset belongs to this history: a known generation, and a position before its end."""
        journal = self.journal
        end = journal.top if seen.generation == journal.generation else journal.ends.get(seen.generation, -1)
        return seen.position <= end

    async def collect(
        self, stored: SessionRow, after: int, top: int, *, in_turns: bool = False
    ) -> list[Missed] | Undeliverable | RecoveryReason:
        """Collect the events for a session after one position and up to another.

        Args:
            stored: The session.
            after: The position before the first event.
            top: The position of the last event.
            in_turns: Whether each read of the store waits for a turn.

        Returns:
            The events in order, or the reason why they can't be replayed.
        """
        turn: AbstractAsyncContextManager[None] = self._turns if in_turns else nullcontext()
        past_rooms = _PastRooms(stored)
        missed: list[Missed] = []
        missed_bytes = 0
        position = after
        while position < top:
            try:
                # A turn for each page: clients that have missed little do not wait for those that have missed much.
                async with turn:
                    page = await self.journal.read(position, top, max_entries=_PAGE_ENTRIES, max_bytes=_PAGE_BYTES)
            except PositionGone:
                return RecoveryReason.RETENTION
            except StoreDamaged as problem:
                self._damage.tell(f"event {position + 1}", problem)
                return RecoveryReason.DAMAGED
            for entry in page:
                try:
                    target, event = self._cache.read(entry)
                except MalformedPacket as problem:
                    self._damage.tell(f"event {entry.position}", problem)
                    return RecoveryReason.DAMAGED
                if past_rooms.were_meant(target, entry.position):
                    if isinstance(event, EncodingFailed):
                        return self._undeliverable(stored, entry.position, event, 0)
                    missed.append(Missed(entry.position, event))
                    missed_bytes += event.size
            if len(missed) > self._options.replay_max_events or missed_bytes > self._options.replay_max_bytes:
                return RecoveryReason.TOO_FAR
            position = page[-1].position
            # Reading a long journal must not block other work.
            await asyncio.sleep(0)
        return missed

    async def _may_resume(self, snapshot: Snapshot, handshake: Handshake) -> bool:
        ask = self._options.may_resume
        if ask is None:
            return True
        return snapshot.handshake is not None and await ask(snapshot.handshake, handshake)


class _PastRooms:
    """Answers whether an event was for a session, by the session's rooms at the event's position."""

    __slots__ = ("_rooms", "_sid")

    def __init__(self, stored: SessionRow) -> None:
        self._sid = stored.sid
        self._rooms: dict[str, list[Membership]] = {}
        for membership in stored.memberships:
            self._rooms.setdefault(membership.room, []).append(membership)

    def were_meant(self, target: Target, position: int) -> bool:
        if target.rooms is not None and not any(self._was_in(room, position) for room in target.rooms):
            return False
        return not target.except_ or not any(self._was_in(room, position) for room in target.except_)

    def _was_in(self, room: str, position: int) -> bool:
        return room == self._sid or any(membership.covers(position) for membership in self._rooms.get(room, ()))
