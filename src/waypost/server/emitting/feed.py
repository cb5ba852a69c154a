"""A namespace's outgoing events, in one order for all members: first into the journal, then to the members.

An emit becomes an entry of the journal. The journal reports commits in the order of positions, and each committed
event goes to its members, with its position as the offset. Without a journal (recovery is off) the event goes to the
members at once. There is no other way for plain events, so the order of the journal is the order for every member.
Events that are not stored wait in the same line.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from waypost.errors import StorageError
from waypost.protocol.codec import Codec, EncodedEvent
from waypost.server.basics.targets import Target, write_record
from waypost.server.cluster.bus import Disconnect, Emit, Join, Leave, Told
from waypost.server.emitting.emit_line import EmitLine
from waypost.server.emitting.rooms import RoomIndex
from waypost.storage.base import Journal, OnCommit
from waypost.storage.journal_records import ExpiredSession

if TYPE_CHECKING:
    from waypost.server.cluster.bus import Bus
    from waypost.server.cluster.seam import Question, Reply
    from waypost.server.emitting.members import Member
    from waypost.server.services import Services

__all__ = ["CLOSES", "Feed"]

CLOSES = b"close"
"""The note of a row that disconnects clients and closes their whole connections; see `Journal.end_matching`."""

_STORED = "journal"
_LIVE = "live"
_VOLATILE = "volatile"
"""The kinds of emits, for the counters."""

T = TypeVar("T")


class Feed:
    """The outgoing events of one namespace.

    Args:
        namespace: The namespace's name.
        services: The services that the server's parts share.
        index: The members and their rooms.
        open_journal: Sets ``journal``, unless recovery is off.
        tell_ended: Called with the sessions that `disconnect` has ended, and whose clients are away.
        is_listened_to: Returns whether listeners get every outgoing event.
        emits: The numbers of emits so far, by kind.

    Attributes:
        journal: The journal; ``None`` until it is opened, and with recovery off.
        own_loop: The event loop that the server runs on.
    """

    __slots__ = (
        "_emits",
        "_index",
        "_is_listened_to",
        "_line",
        "_open_journal",
        "_services",
        "_tell_ended",
        "codec",
        "journal",
        "namespace",
        "own_loop",
    )

    def __init__(
        self,
        namespace: str,
        services: Services,
        index: RoomIndex[Member],
        open_journal: Callable[[], Awaitable[None]],
        tell_ended: Callable[[Collection[ExpiredSession]], None],
        is_listened_to: Callable[[], bool],
        emits: dict[str, int],
    ) -> None:
        for kind in (_STORED, _LIVE, _VOLATILE):
            emits.setdefault(kind, 0)
        self._emits = emits
        self.namespace = namespace
        self.codec: Codec = services.codec
        self.journal: Journal | None = None
        self.own_loop = services.own_loop
        self._index = index
        self._open_journal = open_journal
        self._tell_ended = tell_ended
        self._is_listened_to = is_listened_to
        self._services = services
        self._line = EmitLine()

    async def publish(self, target: Target, event: EncodedEvent, *, compress: bool = True) -> None:
        """Emit an event.

        Args:
            target: The recipients.
            event: The event.
            compress: Whether the transport may compress the packet; a replay ignores it.

        Raises:
            StorageError: The store did not take the event. No member gets it.

        Delivery: in order; to connected clients now, and by replay to clients that come back in time. Returns when
        the event is in the journal. If cancelled, it may still be delivered.
        """
        if self.journal is None:
            await self._open_journal()
        journal = self.journal
        self._emits[_LIVE if journal is None else _STORED] += 1
        if journal is None:
            bus = self._services.bus
            if bus is None:
                self._deliver(target, event, None, 0, compress)
            else:
                told = Emit(event.to_record(), volatile=False, compress=compress)
                await self._tell(bus, target, told, lambda: self._deliver(target, event, None, 0, compress))
            return
        # The same as `write`, without its closures: this is most of the cost of an emit.
        line = self._line
        place = line.enter()

        def committed(position: int) -> None:
            self._deliver(target, event, f"{journal.generation}.{position}", position, compress)
            line.leave(place)

        try:
            record = write_record(target, event) if compress else write_record(target, event, compress=False)
            await journal.append(record, committed)
        finally:
            line.leave(place)

    async def publish_once(
        self, target: Target, event: EncodedEvent, *, write_id: str, window_s: float
    ) -> bool | None:
        """Emit an event, unless one of the same id was emitted within the time for which its id is remembered.

        Args:
            target: The recipients.
            event: The event.
            write_id: The id; see `Store.append_once`.
            window_s: Seconds for which the id is remembered, above 0.

        Returns:
            ``False`` if the event is a repeat, as far as the store knows. ``None`` if recovery is off: without a
            journal nothing was emitted.

        Raises:
            StorageError: The store did not take the event. No member gets it.
            StorageUncertain: The store may have taken it; call again with the same id.

        Delivery: as for `publish`, soon after this returns. If cancelled, it may still be delivered.
        """
        if self.journal is None:
            await self._open_journal()
        if self.journal is None:
            return None
        self._emits[_STORED] += 1
        record = write_record(target, event)
        return await self._services.store.append_once(self.namespace, record, write_id, window_s)

    async def write(self, write: Callable[[OnCommit], Awaitable[object]], on_commit: OnCommit) -> None:
        """Write to the store at this point of the order: later calls take effect later, stored or not.

        Args:
            write: Starts the write; it gets the function to call at the commit.
            on_commit: Called at the commit with the position.

        Raises:
            StorageError: The store did not take the write.
        """
        place = self._line.enter()

        def committed(position: int) -> None:
            on_commit(position)
            self._line.leave(place)

        try:
            await write(committed)
        finally:
            self._line.leave(place)

    async def in_turn(self, action: Callable[[], T]) -> T:
        """Call a function that needs no store, after all earlier calls took effect; see `EmitLine.in_turn`."""
        return await self._line.in_turn(action)

    async def each(self, target: Target, action: Callable[[Member], None]) -> None:
        """Call a function with each member of a target, after all earlier calls took effect.

        Args:
            target: The members.
            action: Called with each member.
        """

        def act() -> None:
            for member in self._index.select(target.rooms, target.except_):
                action(member)

        await self.in_turn(act)

    async def disconnect(self, target: Target, *, close: bool) -> None:
        """Disconnect all members of a target at this point of the order, and end its sessions, of those away too.

        Raises:
            StorageError: The store did not take the change. The connected members were disconnected all the same.
        """
        if self.journal is None:
            await self._open_journal()
        journal = self.journal
        if journal is None:
            apply = partial(self.apply_disconnect, target, (), close=close)
            await self._do_unstored(target, Disconnect(close), apply)
            return
        place = self._line.enter()
        is_done = False

        def committed(ended: Collection[ExpiredSession]) -> None:
            nonlocal is_done
            is_done = True
            self.apply_disconnect(target, ended, close=close)
            self._line.leave(place)

        try:
            await journal.end_matching(target.rooms, target.except_, committed, note=CLOSES if close else b"")
        except StorageError:
            if not is_done:
                self.apply_disconnect(target, (), close=close)
            raise
        finally:
            self._line.leave(place)

    async def join(self, target: Target, rooms: Collection[str]) -> None:
        """Let all members of a target join rooms at this point of the order; clients that are away too.

        Raises:
            StorageError: The store did not take the change. No member joined.
        """
        if self.journal is None:
            await self._open_journal()
        journal = self.journal
        if journal is None:
            await self._do_unstored(target, Join(tuple(rooms)), partial(self.apply_join, target, rooms))
            return
        move = journal.join_matching
        await self.write(
            lambda committed: move(target.rooms, target.except_, rooms, committed),
            lambda _: self.apply_join(target, rooms),
        )

    async def leave(self, target: Target, rooms: Collection[str]) -> None:
        """Let all members of a target leave rooms at this point of the order; clients that are away too.

        Raises:
            StorageError: The store did not take the change. No member left.
        """
        if self.journal is None:
            await self._open_journal()
        journal = self.journal
        if journal is None:
            await self._do_unstored(target, Leave(tuple(rooms)), partial(self.apply_leave, target, rooms))
            return
        move = journal.leave_matching
        await self.write(
            lambda committed: move(target.rooms, target.except_, rooms, committed),
            lambda _: self.apply_leave(target, rooms),
        )

    async def publish_volatile(self, target: Target, event: EncodedEvent, *, compress: bool = True) -> None:
        """Emit an event to the members that can take it at once, after all earlier calls took effect.

        The event carries the journal's current position: otherwise clients would mistake its last string for an
        offset.

        Delivery: at most once, never replayed.
        """
        self._emits[_VOLATILE] += 1
        bus = self._services.bus
        if bus is not None:
            told = Emit(event.to_record(), volatile=True, compress=compress)
            await self._tell(bus, target, told, lambda: self._deliver_volatile(target, event, compress))
        elif self._line.is_empty:
            self._deliver_volatile(target, event, compress)
        else:
            await self._line.in_turn(lambda: self._deliver_volatile(target, event, compress))

    def _deliver_volatile(self, target: Target, event: EncodedEvent, compress: bool) -> None:
        # The offset is that of the last event that was applied here: others may stand in the store already.
        offset = None if self.journal is None else f"{self.journal.generation}.{self.journal.top}"
        counters = self._services.counters
        for member in self._index.select(target.rooms, target.except_):
            if member.out.deliver_volatile(event, offset, compress=compress):
                counters.events_sent += 1

    # -- rows of the journal, of this node or another ---------------------------------------------------------

    def apply_event(self, target: Target, event: EncodedEvent, position: int, *, compress: bool) -> None:
        """Deliver an event that is in the journal at a position."""
        offset = None if self.journal is None else f"{self.journal.generation}.{position}"
        self._deliver(target, event, offset, position, compress)

    def apply_join(self, target: Target, rooms: Collection[str]) -> None:
        """Let the members of a target join rooms."""
        for member in self._index.select(target.rooms, target.except_):
            self._index.add(member, rooms)

    def apply_leave(self, target: Target, rooms: Collection[str]) -> None:
        """Let the members of a target leave rooms."""
        for member in self._index.select(target.rooms, target.except_):
            self._index.leave(member, [room for room in rooms if room != member.sid])

    def apply_disconnect(self, target: Target, ended: Collection[ExpiredSession], *, close: bool) -> None:
        """Disconnect the members of a target.

        Args:
            target: The members.
            ended: The sessions that have ended with it, those of clients that are away too; they are told.
            close: Whether to close the whole connections.
        """
        members = self._index.select(target.rooms, target.except_)
        for member in members:
            member.disconnect()
            if close:
                member.close_connection()
        sids = {member.sid for member in members}
        self._tell_ended([session for session in ended if session.sid not in sids])

    def _deliver(
        self, target: Target, event: EncodedEvent, offset: str | None, position: int, compress: bool
    ) -> None:
        members = self._index.select(target.rooms, target.except_)
        if not members:
            return
        self._services.counters.events_sent += len(members)
        # All members get the same tuple: it is made once, and a transport encodes it once.
        plain = event.frames()
        frames = event.frames_with_offset(offset) if offset else plain
        is_listened_to = self._is_listened_to()
        for member in members:
            if is_listened_to or member.has_own_handlers:
                member.tell_outgoing(event)
            out = member.out
            out.deliver(frames if out.takes_offset else plain, position, compress)

    # -- several servers ------------------------------------------------------------------------------------

    @property
    def has_others(self) -> bool:
        """Whether there are other servers in the cluster."""
        return self._services.others.exist

    def ask_others(self, question: Question, timeout_s: float) -> AsyncIterator[Reply]:
        """Ask the other servers of a cluster about this namespace; see `Others.ask`."""
        return self._services.others.ask((self.namespace,), question, timeout_s)

    async def on_this_server(self, target: Target) -> Target:
        """Return a target of those sockets of a target that are on this server, after all earlier calls took effect.

        Without other servers these are all: the target is returned unchanged.
        """
        if self._services.bus is None:
            return target
        sids: list[str] = []
        await self.each(target, lambda member: sids.append(member.sid))
        return Target(frozenset(sids))

    async def _do_unstored(
        self, target: Target, action: Emit | Join | Leave | Disconnect, apply: Callable[[], None]
    ) -> None:
        bus = self._services.bus
        if bus is None:
            await self.in_turn(apply)
        else:
            await self._tell(bus, target, action, apply)

    async def _tell(
        self, bus: Bus, target: Target, action: Emit | Join | Leave | Disconnect, apply: Callable[[], None]
    ) -> None:
        """Do something that no journal carries, on all servers in one order."""
        place = self._line.enter()

        def applied() -> None:
            apply()
            self._line.leave(place)

        try:
            is_volatile = isinstance(action, Emit) and action.volatile
            await bus.tell(Told(self.namespace, target, action), applied, may_drop=is_volatile)
        finally:
            self._line.leave(place)

    def hear(self, target: Target, action: Emit | Join | Leave | Disconnect) -> None:
        """Apply what another server does to the sockets of a target, and no journal carries.

        Raises:
            EncodingFailed: No packet of this server's codec can carry the event.
            MalformedPacket: The event is not what a server of this version sends.
        """
        if not self._index.select(target.rooms, target.except_):
            return
        if isinstance(action, Join):
            self.apply_join(target, action.rooms)
        elif isinstance(action, Leave):
            self.apply_leave(target, action.rooms)
        elif isinstance(action, Disconnect):
            self.apply_disconnect(target, (), close=action.close)
        else:
            event = self.codec.restore_event(action.record, self.namespace)
            if action.volatile:
                self._deliver_volatile(target, event, action.compress)
            else:
                self._deliver(target, event, None, 0, action.compress)
