"""A namespace's outgoing events, in one order for everyone: first into the journal, then to the sockets.

An emit becomes an entry of the journal; when the journal reports it committed, in the order of positions, it is
handed to the sockets it is for, with its position as the offset. Without a journal (recovery is off) it is handed
over at once. Nothing else delivers plain events, so the log's order is everybody's order.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from waypost.errors import MalformedPacket
from waypost.protocol.codec import Codec, EncodedEvent
from waypost.server.rooms import RoomIndex
from waypost.storage.base import Journal, OnCommit

__all__ = ["Feed", "Listener", "Offset", "Target", "read_record", "write_record"]

_LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True)
class Target:
    """Whom an event is for.

    Attributes:
        rooms: Members of any of these; ``None`` for all in the namespace.
        except_: But of none of these.
    """

    rooms: frozenset[str] | None = None
    except_: frozenset[str] = frozenset()


EVERYONE = Target()


@dataclass(frozen=True, slots=True)
class Offset:
    """A position in a journal as clients see it: ``<generation>.<n>``.

    Attributes:
        generation: The history it is from.
        position: The position.
    """

    generation: str
    position: int

    @classmethod
    def parse(cls, text: str) -> Offset:
        """Read one.

        Raises:
            MalformedPacket: It is not of that form.
        """
        generation, point, digits = text.partition(".")
        # 18 digits always fit into the 64 bits a store keeps.
        if not (generation and point and digits.isascii() and digits.isdigit() and len(digits) <= 18):
            raise MalformedPacket("an offset like g4k2.17", text)
        return cls(generation, int(digits))

    def __str__(self) -> str:
        return f"{self.generation}.{self.position}"


class Listener(Protocol):
    """A socket, as the feed sees it."""

    @property
    def sid(self) -> str:
        """Its id, which is a room that it never leaves."""
        ...

    def deliver(self, event: EncodedEvent, offset: str | None, position: int) -> None:
        """Take an event that is for it, in order; must not raise."""
        ...

    def deliver_volatile(self, event: EncodedEvent, offset: str | None) -> None:
        """Take an event if it can leave now, else drop it; must not raise."""
        ...


class Feed:
    """The outgoing events of one namespace.

    Args:
        namespace: Its name.
        codec: What its packets are written in.
        index: The sockets to deliver to, and their rooms.
        open_journal: Sets ``journal``, unless recovery is off.

    Attributes:
        journal: Where events are kept; ``None`` until it is opened, and with recovery off.
    """

    __slots__ = ("_index", "_open_journal", "codec", "journal", "namespace")

    def __init__(
        self, namespace: str, codec: Codec, index: RoomIndex[Any], open_journal: Callable[[], Awaitable[None]]
    ) -> None:
        self.namespace = namespace
        self.codec = codec
        self.journal: Journal | None = None
        self._index: RoomIndex[Listener] = index
        self._open_journal = open_journal

    async def publish(self, target: Target, event: EncodedEvent) -> None:
        """Emit an event.

        Delivery: in order, to those connected now; to those who come back in time by replay. Returns when the
        event is in the journal and on its way. If cancelled it may still be delivered.

        Raises:
            StorageError: It was not accepted, and is delivered to nobody.
        """
        if self.journal is None:
            await self._open_journal()
        journal = self.journal
        if journal is None:
            self._deliver(target, event, None, 0)
            return

        def on_commit(position: int) -> None:
            self._deliver(target, event, f"{journal.generation}.{position}", position)

        await journal.append(write_record(target, event), on_commit)

    async def join(self, target: Target, rooms: Collection[str]) -> None:
        """Let all whom a target means join rooms, from this point of the feed on; those who are away too.

        Raises:
            StorageError: It was not accepted, and nobody joined.
        """

        def on_commit(_position: int) -> None:
            for listener in self._index.select(target.rooms, target.except_):
                self._index.add(listener, rooms)

        await self._move(target, rooms, on_commit, lambda journal: journal.join_matching)

    async def leave(self, target: Target, rooms: Collection[str]) -> None:
        """Let all whom a target means leave rooms, from this point of the feed on; those who are away too.

        Raises:
            StorageError: It was not accepted, and nobody left.
        """

        def on_commit(_position: int) -> None:
            for listener in self._index.select(target.rooms, target.except_):
                self._index.leave(listener, [room for room in rooms if room != listener.sid])

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
        if self.journal is None:
            on_commit(0)
        else:
            await write(self.journal)(target.rooms, target.except_, rooms, on_commit)

    def publish_volatile(self, target: Target, event: EncodedEvent) -> None:
        """Emit an event to whoever can take it right now. Delivery: at most once, never replayed.

        It carries the journal's current position, or clients would take its last string for an offset.
        """
        offset = None if self.journal is None else f"{self.journal.generation}.{self.journal.top}"
        for listener in self._index.select(target.rooms, target.except_):
            listener.deliver_volatile(event, offset)

    def _deliver(self, target: Target, event: EncodedEvent, offset: str | None, position: int) -> None:
        for listener in self._index.select(target.rooms, target.except_):
            listener.deliver(event, offset, position)


def write_record(target: Target, event: EncodedEvent) -> bytes:
    """Make a journal record of an event and whom it is for."""
    rooms = None if target.rooms is None else sorted(target.rooms)
    head = b"" if rooms is None and not target.except_ else orjson.dumps([rooms, sorted(target.except_)])
    return b"".join((len(head).to_bytes(_LENGTH_BYTES, "big"), head, event.to_record()))


def read_record(record: bytes, namespace: str, codec: Codec) -> tuple[Target, EncodedEvent]:
    """Read what `write_record` made."""
    end = _LENGTH_BYTES + int.from_bytes(record[:_LENGTH_BYTES], "big")
    return _read_target(record[_LENGTH_BYTES:end]), codec.restore_event(record[end:], namespace)


def _read_target(head: bytes) -> Target:
    if not head:
        return EVERYONE
    rooms, except_ = orjson.loads(head)
    return Target(None if rooms is None else frozenset(rooms), frozenset(except_))
