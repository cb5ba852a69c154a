"""The owner of each session: the connected member that represents it now, and the change of owners.

A client that reconnects takes its session over from its old connection. From one point of the order of writes on,
events and changes of rooms reach the new owner. Earlier events are replayed to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from waypost.server.connections.addresses import counted_address
from waypost.server.emitting.acks import PendingAcks
from waypost.server.emitting.members import Member
from waypost.server.emitting.rooms import RoomIndex
from waypost.server.recovery.crossing import Crossing
from waypost.server.recovery.handed import Handed
from waypost.server.recovery.insisting import Insisting
from waypost.server.recovery.lives import Lives
from waypost.server.recovery.parked import Parked
from waypost.server.recovery.recovery import Keeper, Missed, Returning
from waypost.server.recovery.snapshot import Snapshot, rebase
from waypost.server.recovery.stuck import another_try, is_stuck
from waypost.server.recovery.taking import NotNow, Owner, Taking
from waypost.server.services import Services
from waypost.storage.following import ClaimVoid
from waypost.storage.journal_records import SessionRow

if TYPE_CHECKING:
    from waypost.server.recovery.live_session import LiveSession

__all__ = ["Ownership"]


class Ownership:
    """The owners of a namespace's sessions.

    Args:
        index: The members and their rooms.
        services: The services that the server's parts share.
        crossing: The sessions that come from other nodes and go to them.

    Attributes:
        keeper: The sessions; ``None`` until the journal is open, and with recovery off.
    """

    __slots__ = (
        "__weakref__",
        "_claiming",
        "_crossing",
        "_entering",
        "_index",
        "_insisting",
        "_lives",
        "_owners",
        "_parked",
        "_services",
        "_unfinished",
        "keeper",
    )

    def __init__(self, index: RoomIndex[Member], services: Services, crossing: Crossing) -> None:
        self.keeper: Keeper | None = None
        self._crossing = crossing
        self._index = index
        self._services = services
        self._owners: dict[bytes, Owner] = {}
        self._lives = Lives()
        # What clients that are away have not acknowledged.
        self._parked = Parked()
        self._entering: dict[bytes, int] = {}
        # The sessions whose claims by this node are not answered yet.
        self._claiming: dict[bytes, int] = {}
        self._unfinished = 0
        self._insisting = Insisting(services)

    @property
    def is_idle(self) -> bool:
        """Whether no session is being taken over, and no change is pending."""
        return not (self._unfinished or self._insisting.unfinished or self._entering)

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
            self.end_session(session.key, member.sid)

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
        taking = Taking(member, session, keeper, returning)
        with self._entering_with(session.key), self._standing(session.key, member):
            try:
                taking.handed = await self.make_way(session.key)
                if member.left_because is not None and self._crossing.is_possible:
                    # What was handed over waits at the store for the next node that attaches the session.
                    return returning.missed
                stored = await keeper.journal.attach_session(session.key, partial(self._take, taking))
            except ClaimVoid:
                member.supersede()
                return returning.missed
        if member.left_because is not None:
            return returning.missed
        if stored is None:
            raise NotNow("the session has ended meanwhile")
        if not taking.gets_further:
            raise NotNow("its last connection has shown that the client gets no further")
        more = await keeper.collect(stored, returning.top, taking.top)
        if not isinstance(more, list):
            raise NotNow(f"what came meanwhile can't be replayed: {more}")
        return returning.missed + more

    def _take(self, taking: Taking, stored: SessionRow) -> None:
        """Let a member own a session, at one point of the order of writes.

        Events up to this top are replayed, by the rooms of this moment. Later events and changes of rooms reach the
        new owner.
        """
        member, session, returning = taking.member, taking.session, taking.returning
        previous = self._owners.get(session.key)
        if previous is not None:
            previous.supersede()
        taking.gets_further = not is_stuck(stored, returning.seen)
        if member.left_because is None and taking.gets_further:
            taking.top = taking.keeper.journal.top
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
            self._inherit(member, stored, taking.handed)
            self._own(member, session, (member.sid, *rooms))
        elif taking.handed is not None:
            self._inherit(member, stored, taking.handed)

    def _own(self, member: Owner, session: LiveSession, rooms: Iterable[str]) -> None:
        if self.keeper is not None:
            self.keeper.absences.returned(session.key)
        self._owners[session.key] = member
        for frames in member.out.acks.to_resend():
            member.out.send(frames)
        member.enter(session, rooms)

    def _inherit(self, member: Owner, stored: SessionRow, handed: Handed | None) -> None:
        """Let a member wait for what the client has not acknowledged, here and at the node that it comes from."""
        key = stored.key
        acks = self._parked.take(key)
        if acks is None:
            acks = self._crossing.take_back(key)
        if acks is None:
            acks = member.out.acks
            if handed is None:
                # Perhaps a third node waits for what the last one, which is dead, was to send again.
                self._crossing.tell_calls_lost(key)
        member.out.acks = acks
        work = None
        if handed is not None:
            work = self._crossing.arrive(key, acks, handed, Snapshot.decode(stored.data).data, member.data)
        if member.left_because is not None:
            self._parked.put(key, member.sid, acks)
        elif work is not None:
            member.follow(work)

    async def make_way(self, key: bytes) -> Handed | None:
        """End the owner of a session, and wait until the application was told of its end. May be cancelled.

        With other nodes, this claims the session; attach it then, or call `retire` instead.

        Returns:
            What another node has handed over with the session; ``None`` for nothing.

        Raises:
            ClaimVoid: The client has gone on to another node.
            StorageError: The store did not answer.
        """
        owner = self._owners.get(key)
        if owner is not None:
            owner.supersede()
        handed = None
        if self.keeper is not None and self._crossing.is_possible:
            handed = await self._claim(self.keeper, key)
        earlier = self._lives.last(key)
        if earlier is None:
            return handed
        if self.keeper is not None and key in self._entering and not self._crossing.is_possible:
            # The client is back in time, even if the session's time is over before the handlers have ended.
            await self.keeper.journal.attach_session(key, lambda _: None)
        await earlier.over()
        return handed

    async def _claim(self, keeper: Keeper, key: bytes) -> Handed | None:
        self._claiming[key] = self._claiming.get(key, 0) + 1
        try:
            return await self._crossing.claim(keeper.journal, key)
        finally:
            self._claiming[key] -= 1
            if not self._claiming[key]:
                del self._claiming[key]

    async def retire(self, key: bytes) -> None:
        """End the owner of a session that its client does not continue, as `make_way` does; the session ends in time.

        Raises:
            NotNow: The client has gone on to another node.
            StorageError: The store did not answer.
        """
        if self.keeper is None or not self._crossing.is_possible:
            await self.make_way(key)
            return
        with self._entering_with(key):
            try:
                await self.make_way(key)
                await self.keeper.journal.attach_session(key, lambda _: None)
            except ClaimVoid:
                raise NotNow("its client has gone on to another node") from None

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
                self._detach(key, None)

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
                self._note_stuck(session.key, member.sid, *stuck)
            self._parked.put(session.key, member.sid, member.out.acks)
            self._detach(session.key, member.sid)
            self._count_away(session.key, member)
        else:
            self._crossing.tell_ended(member.sid)
            self.end_session(session.key, member.sid)

    def forget(self, member: Owner) -> None:
        """Note that the last handler of a member has ended."""
        if member.session is None:
            return
        key = member.session.key
        self._lives.forget(key, member)
        self._crossing.work_is_over(member)

    def forget_all(self) -> None:
        """Forget the sessions of a closed store, and end the calls to clients that are away."""
        self._parked.close()
        self._crossing.close()
        self._owners, self._entering, self._lives = {}, {}, Lives()
        self._claiming = {}
        self._insisting = Insisting(self._services)
        self.keeper = None

    async def forget_expired(self, sid: str) -> None:
        """End the calls to a client that did not come back in time, and wait until its disconnect was told.

        What it had in hand of queues is delivered again.
        """
        self._crossing.tell_ended(sid)
        self._end_waits(sid)
        earlier = self._lives.ending(sid)
        if earlier is not None:
            await earlier.over()

    def _end_waits(self, sid: str) -> None:
        self._lives.seal(sid)
        parked = self._parked.take_of(sid)
        if parked is not None:
            parked.close()
        self._crossing.forget(sid)

    def _count_away(self, key: bytes, member: Owner) -> None:
        if self.keeper is not None:
            site = counted_address(member.handshake)
            self.keeper.count_away(key, site, partial(self._detach, key, member.sid, is_given_up=True))

    def _detach(self, key: bytes, sid: str | None, *, is_given_up: bool = False) -> None:
        async def detach() -> bool:
            # Checked at each attempt: a client that comes back may have taken the session over by now.
            if self.keeper is None or key in self._owners or key in self._entering:
                return True
            return await self.keeper.detach(key, sid, is_given_up=is_given_up)

        self._insisting.insist(detach)

    def _note_stuck(self, key: bytes, sid: str, position: int, times: int) -> None:
        async def note() -> bool:
            return self.keeper is None or await self.keeper.note_stuck(key, sid, position, times)

        self._insisting.insist(note)

    def end_session(self, key: bytes, sid: str) -> None:
        """Remove a session from the store; retried until the store takes it.

        Args:
            key: The session's key.
            sid: The socket's id, for the log.
        """
        parked = self._parked.take(key)
        if parked is not None:
            parked.close()

        async def end() -> bool:
            return self.keeper is None or await self.keeper.end(key, sid)

        self._insisting.insist(end)

    def give_up(self) -> None:
        """Try each change of the store at most once from now on: the server stops; see `Insisting.give_up`."""
        self._insisting.give_up()

    # -- other nodes ----------------------------------------------------------------------------------------

    def claimed(self, key: bytes) -> None:
        """End a session's life here, because its client has come to another node, and hand the session over."""
        owner = self._owners.get(key)
        last: tuple[str, PendingAcks] | None = None
        if owner is not None:
            last = owner.sid, owner.out.acks
            owner.supersede()
        if self.keeper is not None:
            self.keeper.absences.returned(key)
        # After the claims of this node whose answers have come just before: what waits for them is woken first.
        asyncio.get_running_loop().call_soon(self._give_way, key, last)

    def _give_way(self, key: bytes, last: tuple[str, PendingAcks] | None) -> None:
        if key not in self._claiming:
            # Otherwise this node has claimed the session later: the answers of the store come in order.
            self._lives.turn_away(key)
        self._services.keep_task(asyncio.get_running_loop().create_task(self._hand_over(key, last)))

    async def _hand_over(self, key: bytes, last: tuple[str, PendingAcks] | None) -> None:
        self._unfinished += 1
        try:
            earlier = self._lives.last(key)
            if earlier is not None:
                await earlier.over()
                await earlier.save_data()
        finally:
            self._unfinished -= 1
        if key in self._owners or self._lives.is_stood_for(key):
            return  # its client is back here
        sid, acks = self._parked.take_with_sid(key)
        if last is not None:
            sid, acks = last
        handed = self._crossing.hand_over(key, sid, acks, self._lives.waiting(key))

        async def release() -> bool:
            return self.keeper is None or await self.keeper.release(key, sid, handed)

        # At once: a claim of this node that comes next must find it.
        if not await release():
            self._insisting.insist(release)

    def answered(self, key: bytes, ack_id: int, arguments: list[Any] | None) -> None:
        """Take an acknowledgement that came to another node; ``None`` if none will ever come."""
        self._crossing.answered(key, ack_id, arguments)

    def ended(self, sids: Collection[str]) -> None:
        """End what is still kept here for sessions that have ended elsewhere."""
        for sid in sids:
            self._end_waits(sid)

    def calls_lost(self, key: bytes) -> None:
        """End the calls to a client of this node that went on to another one, where they were lost."""
        self._crossing.calls_lost(key)

    def work_ended(self, works: str, data: bytes | None) -> None:
        """Note that the last of the handlers elsewhere of that name has ended, and what they have changed."""
        work = self._crossing.work_ended(works, data)
        owner = None if work is None else self._owners.get(work.key)
        if work is not None and owner is not None and owner.data is work.data:
            owner.data_touched = True
            self._services.keep_task(asyncio.get_running_loop().create_task(owner.save_data()))

    def node_died(self, node: str) -> None:
        """Note that a node is dead, and the handlers there with it."""
        self._crossing.node_died(node)
