"""The owner of each session: the connected member that represents it now, and the change of owners.

A client that reconnects takes its session over from its old connection. From one point of the order of writes on,
events and changes of rooms reach the new owner. Earlier events are replayed to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Protocol

from waypost.retrying import STORE_RETRIES, Backoff
from waypost.server.connections.addresses import counted_address
from waypost.server.emitting.acks import PendingAcks
from waypost.server.emitting.members import Member
from waypost.server.emitting.rooms import RoomIndex
from waypost.server.recovery.lives import Life, Lives
from waypost.server.recovery.recovery import Keeper, Missed, Returning
from waypost.server.recovery.snapshot import Snapshot, rebase
from waypost.server.recovery.stuck import another_try, is_stuck
from waypost.server.services import Services
from waypost.storage.journal_records import SessionRow

if TYPE_CHECKING:
    from waypost.server.recovery.live_session import LiveSession

__all__ = ["NotNow", "Owner", "Ownership"]


class NotNow(Exception):
    """The result of the look-up is outdated; the client's next attempt will get the current one."""


class Owner(Life, Protocol):
    """A member that owns a session, or will own one.

    Attributes:
        session: The owned session.
        resuming: The session that it takes over once it is admitted.
    """

    session: LiveSession | None
    resuming: LiveSession | None

    def enter(self, session: LiveSession, rooms: Iterable[str]) -> None:
        """Own a session, and enter the index: from now on the member gets the deliveries of these rooms."""
        ...


class Ownership:
    """The owners of a namespace's sessions.

    Args:
        index: The members and their rooms.
        services: The services that the server's parts share.

    Attributes:
        keeper: The sessions; ``None`` until the journal is open, and with recovery off.
    """

    __slots__ = (
        "_entering",
        "_index",
        "_lives",
        "_owners",
        "_parked_acks",
        "_parked_keys",
        "_services",
        "_unfinished",
        "keeper",
    )

    def __init__(self, index: RoomIndex[Member], services: Services) -> None:
        self.keeper: Keeper | None = None
        self._index = index
        self._services = services
        self._owners: dict[bytes, Owner] = {}
        self._lives = Lives()
        # The socket ids of clients that are away, and what they have not acknowledged; and the keys by socket id.
        self._parked_acks: dict[bytes, tuple[str, PendingAcks]] = {}
        self._parked_keys: dict[str, bytes] = {}
        self._entering: dict[bytes, int] = {}
        self._unfinished = 0

    @property
    def is_idle(self) -> bool:
        """Whether no session is being taken over, and no change is pending."""
        return not (self._unfinished or self._entering)

    def __len__(self) -> int:
        return len(self._owners)

    def owner(self, key: bytes) -> Owner | None:
        """Return a session's owner, or ``None``."""
        return self._owners.get(key)

    # -- a session gets an owner ----------------------------------------------------------------------------

    async def begin(self, member: Owner, session: LiveSession) -> None:
        """Store a new session, and make a member its owner, with its own id as the only room.

        If the member ends in the meantime, the session ends too.

        Raises:
            StorageError: The store did not take the session.
        """

        def start(position: int) -> None:
            session.last = position
            if member.left_because is None:
                self._own(member, session, (member.sid,))

        await session.begin(member.sid, start)
        if member.session is None:
            self.end_session(session.key)

    async def take_over(
        self, member: Owner, session: LiveSession, keeper: Keeper, returning: Returning
    ) -> list[Missed]:
        """Make a member the owner of a stored session, in the rooms that the session has at that moment.

        The previous owner ends before, and the application is told of that. Data that its handlers have stored since
        the look-up is merged into the member's data.

        Args:
            member: The member.
            session: The session.
            keeper: The sessions that the look-up searched.
            returning: The result of the look-up.

        Returns:
            All events that the client has missed, up to the point from which the member gets emits. If the member has
            ended in the meantime, the missed events of the look-up.

        Raises:
            NotNow: The session has ended in the meantime, or later events can't be replayed.
            StorageError: The store did not answer.
        """
        top = 0
        gets_further = True

        def take(stored: SessionRow) -> None:
            # Called at one point of the order of writes. Events up to this top are replayed, by the rooms of this
            # moment. Later events and changes of rooms reach the new owner.
            nonlocal top, gets_further
            previous = self._owners.get(session.key)
            if previous is not None:
                previous.supersede()
            gets_further = not is_stuck(stored, returning.seen)
            if member.left_because is None and gets_further:
                top = keeper.journal.top
                session.progress = session.last = returning.seen
                session.stuck_at, session.stuck_times = stored.stuck_at, stored.stuck_times
                # Handlers of the older connection may have stored something since the look-up.
                session.refresh(stored.data)
                earlier = self._lives.waiting(session.key)
                latest = Snapshot.decode(stored.data).data if earlier is None else earlier.data
                rebase(member.data, Snapshot.decode(returning.stored.data).data, latest)
                if earlier is not None:
                    member.succeed(earlier)
                rooms = [membership.room for membership in stored.memberships if membership.until is None]
                self._own(member, session, (member.sid, *rooms))

        with self._entering_with(session.key), self._standing(session.key, member):
            await self.make_way(session.key)
            stored = await keeper.journal.attach_session(session.key, take)
        if stored is None:
            raise NotNow("the session has ended meanwhile")
        if member.left_because is not None:
            return returning.missed
        if not gets_further:
            raise NotNow("its last connection has shown that the client gets no further")
        more = await keeper.collect(stored, returning.top, top)
        if not isinstance(more, list):
            raise NotNow(f"what came meanwhile can't be replayed: {more}")
        return returning.missed + more

    def _own(self, member: Owner, session: LiveSession, rooms: Iterable[str]) -> None:
        if self.keeper is not None:
            self.keeper.absences.returned(session.key)
        self._owners[session.key] = member
        parked = self._take_parked(session.key)
        if parked is not None:
            member.out.acks = parked
            for frames in member.out.acks.to_resend():
                member.out.send(frames)
        member.enter(session, rooms)

    async def make_way(self, key: bytes) -> None:
        """End the owner of a session, and wait until the application was told of its end. May be cancelled."""
        owner = self._owners.get(key)
        if owner is not None:
            owner.supersede()
        earlier = self._lives.last(key)
        if earlier is None:
            return
        if self.keeper is not None and key in self._entering:
            # The client is back in time, even if the session's time is over before the handlers have ended.
            await self.keeper.journal.attach_session(key, lambda _: None)
        await earlier.over()

    @contextmanager
    def _standing(self, key: bytes, member: Owner) -> Iterator[None]:
        """Let a member stand for a session, until it owns it."""
        self._lives.stand(key, member)
        try:
            yield
        finally:
            self._lives.step_down(key, member)

    @contextmanager
    def _entering_with(self, key: bytes) -> Iterator[None]:
        """Keep a session from being detached while it is being taken over.

        If it has no owner in the end, it is detached then.
        """
        self._entering[key] = self._entering.get(key, 0) + 1
        try:
            yield
        finally:
            self._entering[key] -= 1
            if not self._entering[key]:
                del self._entering[key]
                self._detach(key)

    # -- an owner's rooms -----------------------------------------------------------------------------------

    def add_to_rooms(self, key: bytes, rooms: Collection[str]) -> None:
        """Add a session's current owner to rooms."""
        owner = self._owners.get(key)
        if owner is not None:
            self._index.add(owner, rooms)

    def take_from_rooms(self, key: bytes, rooms: Collection[str]) -> None:
        """Remove a session's current owner from rooms."""
        owner = self._owners.get(key)
        if owner is not None:
            self._index.leave(owner, rooms)

    # -- a session loses its owner --------------------------------------------------------------------------

    def let_go(self, member: Owner, *, recoverable: bool) -> None:
        """Note that a member has ended. A member without a session is ignored.

        Args:
            member: The member.
            recoverable: Whether its client may come back to the session; otherwise the session ends.
        """
        session = member.session
        if session is None and member.resuming is not None:
            self._lives.spare(member)
        if session is None or self._owners.get(session.key) is not member:
            return
        del self._owners[session.key]
        self._lives.ended(session.key, member, recoverable=recoverable)
        if recoverable:
            stuck = another_try(session, member.out)
            if stuck is not None:
                self._note_stuck(session.key, *stuck)
            self._park_acks(session.key, member)
            self._detach(session.key)
            self._count_away(session.key, member)
        else:
            self.end_session(session.key)

    def forget(self, member: Owner) -> None:
        """Note that the last handler of a member has ended."""
        if member.session is not None:
            self._lives.forget(member.session.key, member)

    def forget_all(self) -> None:
        """Forget the sessions of a closed store, and end the calls to clients that are away."""
        parked, self._parked_acks = self._parked_acks, {}
        for _, acks in parked.values():
            acks.close()
        self._owners, self._entering, self._lives = {}, {}, Lives()
        self.keeper = None

    async def forget_expired(self, sid: str) -> None:
        """End the calls to a client that did not come back in time, and wait until its disconnect was told.

        What it had in hand of queues is delivered again.
        """
        self._lives.seal(sid)
        key = self._parked_keys.get(sid)
        parked = None if key is None else self._take_parked(key)
        if parked is not None:
            parked.close()
        earlier = self._lives.ending(sid)
        if earlier is not None:
            await earlier.over()

    def _count_away(self, key: bytes, member: Owner) -> None:
        if self.keeper is not None:
            site = counted_address(member.handshake)
            self.keeper.count_away(key, site, partial(self._detach, key, is_given_up=True))

    def _detach(self, key: bytes, *, is_given_up: bool = False) -> None:
        async def detach() -> bool:
            # Checked at each attempt: a client that comes back may have taken the session over by now.
            if self.keeper is None or key in self._owners or key in self._entering:
                return True
            return await self.keeper.detach(key, is_given_up=is_given_up)

        self._insist(detach)

    def _note_stuck(self, key: bytes, position: int, times: int) -> None:
        async def note() -> bool:
            return self.keeper is None or await self.keeper.note_stuck(key, position, times)

        self._insist(note)

    def end_session(self, key: bytes) -> None:
        """Remove a session from the store; retried until the store takes it."""
        parked = self._take_parked(key)
        if parked is not None:
            parked.close()

        async def end() -> bool:
            return self.keeper is None or await self.keeper.end(key)

        self._insist(end)

    def _insist(self, attempt: Callable[[], Awaitable[bool]]) -> None:
        self._services.keep_task(asyncio.get_running_loop().create_task(self._try(attempt)))

    async def _try(self, attempt: Callable[[], Awaitable[bool]]) -> None:
        self._unfinished += 1
        try:
            backoff = Backoff(STORE_RETRIES)
            while True:
                if await attempt():
                    return
                await asyncio.sleep(backoff.next_s())
        finally:
            self._unfinished -= 1

    def _park_acks(self, key: bytes, member: Owner) -> None:
        if len(member.out.acks):
            self._parked_acks[key] = member.sid, member.out.acks
            self._parked_keys[member.sid] = key

    def _take_parked(self, key: bytes) -> PendingAcks | None:
        sid, parked = self._parked_acks.pop(key, ("", None))
        self._parked_keys.pop(sid, None)
        return parked
