"""A namespace's outgoing events, in one order for everyone: first into the journal, then to the sockets.

An emit becomes an entry of the journal; when the journal reports it committed, in the order of positions, it is
handed to the sockets it is for, with its position as the offset. Without a journal (recovery is off) it is handed
over at once. Nothing else delivers plain events, so the log's order is everybody's order; what is not in the log
takes its turn in the same line.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import TYPE_CHECKING, TypeVar

from waypost.protocol.codec import Codec, EncodedEvent
from waypost.server.basics.targets import Target, write_record
from waypost.server.emitting.emit_line import EmitLine
from waypost.server.emitting.rooms import RoomIndex
from waypost.storage.base import Journal, OnCommit

if TYPE_CHECKING:
    from waypost.server.cluster.seam import Question, Reply
    from waypost.server.emitting.members import Member
    from waypost.server.services import Services

__all__ = ["Feed"]

T = TypeVar("T")


class Feed:
    """The outgoing events of one namespace.

    Args:
        namespace: Its name.
        services: What the server's parts share.
        index: The members to deliver to, and their rooms.
        open_journal: Sets ``journal``, unless recovery is off.
        is_listened_to: Tells whether listeners are told of every event that goes out.

    Attributes:
        journal: Where events are kept; ``None`` until it is opened, and with recovery off.
    """

    __slots__ = ("_index", "_is_listened_to", "_line", "_open_journal", "_services", "codec", "journal", "namespace")

    def __init__(
        self,
        namespace: str,
        services: Services,
        index: RoomIndex[Member],
        open_journal: Callable[[], Awaitable[None]],
        is_listened_to: Callable[[], bool],
    ) -> None:
        self.namespace = namespace
        self.codec: Codec = services.codec
        self.journal: Journal | None = None
        self._index = index
        self._open_journal = open_journal
        self._is_listened_to = is_listened_to
        self._services = services
        self._line = EmitLine()

    async def publish(self, target: Target, event: EncodedEvent, *, compress: bool = True) -> None:
        """Emit an event.

        Args:
            target: Whom it is for.
            event: The event.
            compress: Whether its packet may be compressed; not kept for a replay.

        Delivery: in order, to those connected now; to those who come back in time by replay. Returns when the
        event is in the journal and on its way. If cancelled it may still be delivered.

        Raises:
            StorageError: It was not accepted, and is delivered to nobody.
        """
        if self.journal is None:
            await self._open_journal()
        journal = self.journal
        if journal is None:
            self._deliver(target, event, None, 0, compress)
            return
        # As `write` does, without its closures: most of what an emit costs is this.
        line = self._line
        place = line.enter()

        def committed(position: int) -> None:
            self._deliver(target, event, f"{journal.generation}.{position}", position, compress)
            line.leave(place)

        try:
            await journal.append(write_record(target, event), committed)
        finally:
            line.leave(place)

    async def write(self, write: Callable[[OnCommit], Awaitable[object]], on_commit: OnCommit) -> None:
        """Write to the store, so that what is asked for later takes effect later, whether it is stored or not.

        Args:
            write: Begins the write; what is to be called when it is committed is passed to it.
            on_commit: Called then with the position.

        Raises:
            StorageError: It was not accepted.
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
        """Do something that needs no store, after all that was asked for before; see `EmitLine.in_turn`."""
        return await self._line.in_turn(action)

    async def each(self, target: Target, action: Callable[[Member], None]) -> None:
        """Do something with each member that a target means, when all that was asked for before has taken effect.

        Args:
            target: The members that are meant.
            action: Called with each member.
        """

        def act() -> None:
            for member in self._index.select(target.rooms, target.except_):
                action(member)

        await self.in_turn(act)

    def ask_others(self, question: Question, timeout_s: float) -> AsyncIterator[Reply]:
        """Ask the other servers of a cluster about this namespace; see `Others.ask`."""
        return self._services.others.ask(self.namespace, question, timeout_s)

    async def join(self, target: Target, rooms: Collection[str]) -> None:
        """Let all whom a target means join rooms, from this point of the feed on; those who are away too.

        Raises:
            StorageError: It was not accepted, and nobody joined.
        """

        def on_commit(_position: int) -> None:
            for member in self._index.select(target.rooms, target.except_):
                self._index.add(member, rooms)

        await self._move(target, rooms, on_commit, lambda journal: journal.join_matching)

    async def leave(self, target: Target, rooms: Collection[str]) -> None:
        """Let all whom a target means leave rooms, from this point of the feed on; those who are away too.

        Raises:
            StorageError: It was not accepted, and nobody left.
        """

        def on_commit(_position: int) -> None:
            for member in self._index.select(target.rooms, target.except_):
                self._index.leave(member, [room for room in rooms if room != member.sid])

        await self._move(target, rooms, on_commit, lambda journal: journal.leave_matching)

    async def _move(
        self,
        target: Target,
        rooms: Collection[str],
        on_commit: OnCommit,
        write: Callable[[Journal], Callable[..., Awaitable[None]]],
    ) -> None:
        if self.journal is None:
            await self._open_journal()
        journal = self.journal
        if journal is None:
            on_commit(0)
            return
        move = write(journal)
        await self.write(lambda committed: move(target.rooms, target.except_, rooms, committed), on_commit)

    async def publish_volatile(self, target: Target, event: EncodedEvent, *, compress: bool = True) -> None:
        """Emit an event to the members that can take it when its turn has come.

        Delivery: at most once, never replayed.

        It carries the journal's current position, or clients would take its last string for an offset.
        """

        def send() -> None:
            offset = None if self.journal is None else f"{self.journal.generation}.{self.journal.top}"
            for member in self._index.select(target.rooms, target.except_):
                member.out.deliver_volatile(event, offset, compress=compress)

        await self.in_turn(send)

    def _deliver(
        self, target: Target, event: EncodedEvent, offset: str | None, position: int, compress: bool
    ) -> None:
        members = self._index.select(target.rooms, target.except_)
        if not members:
            return
        # All members get the same tuple: it is made once, and a transport encodes it once.
        plain = event.frames()
        frames = event.frames_with_offset(offset) if offset else plain
        is_listened_to = self._is_listened_to()
        for member in members:
            if is_listened_to or member.has_own_handlers:
                member.tell_outgoing(event)
            out = member.out
            out.deliver(frames if out.takes_offset else plain, position, compress)
