"""The rows of a namespace's journal that other nodes have written, and what they mean to the members here."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from waypost.errors import EncodingFailed, MalformedPacket
from waypost.logs import fields, get_logger
from waypost.server.basics.targets import EVERYONE, Target, read_head
from waypost.server.emitting.feed import CLOSES, Feed
from waypost.server.emitting.rooms import RoomIndex
from waypost.storage.journal_records import ExpiredSession

if TYPE_CHECKING:
    from waypost.server.emitting.members import Member

__all__ = ["Followed"]

logger = get_logger("waypost.cluster")


class Followed:
    """Applies the rows of other nodes to the members of one namespace. The `Follower` of its journal.

    The feed calls the same functions for the rows that this node has written.

    Args:
        feed: The namespace's feed.
        index: The members and their rooms.
        claimed: Called with the key of a session whose client has come to another node.
    """

    __slots__ = ("_feed", "_index", "claimed")

    def __init__(self, feed: Feed, index: RoomIndex[Member], claimed: Callable[[bytes], None]) -> None:
        self._feed = feed
        self._index = index
        self.claimed = claimed

    def appended(self, position: int, record: bytes) -> None:
        """Deliver an event to the members that are meant; only if there may be any, it is decoded."""
        try:
            target, compress, start = read_head(record)
            if not self._index.may_select(target.rooms):
                return
            event = self._feed.codec.restore_event(record[start:], self._feed.namespace)
        except MalformedPacket as problem:
            self._cut_off(EVERYONE, position, problem)
        except EncodingFailed as problem:
            self._cut_off(target, position, problem)
        else:
            self._feed.apply_event(target, event, position, compress=compress)

    def _cut_off(self, target: Target, position: int, problem: Exception) -> None:
        """Close the connections of clients that can't get an event: when they come back, they are told why."""
        name = self._feed.namespace
        logger.error(
            "%s: event %d of another node can't be delivered: %s",
            name,
            position,
            problem,
            extra=fields(namespace=name, position=position),
        )
        for member in self._index.select(target.rooms, target.except_):
            member.out.cut()

    def joined(self, rooms: Collection[str] | None, except_: Collection[str], joined: Collection[str]) -> None:
        """Let the matching members join rooms."""
        self._feed.apply_join(_target(rooms, except_), joined)

    def left(self, rooms: Collection[str] | None, except_: Collection[str], left: Collection[str]) -> None:
        """Let the matching members leave rooms."""
        self._feed.apply_leave(_target(rooms, except_), left)

    def ended(
        self,
        rooms: Collection[str] | None,
        except_: Collection[str],
        sessions: Collection[ExpiredSession],
        note: bytes,
    ) -> None:
        """Disconnect the matching members, and tell of the sessions of this node's clients that are away."""
        self._feed.apply_disconnect(_target(rooms, except_), sessions, close=note == CLOSES)

    def jumped(self) -> None:
        """Close the connections of all clients: when they come back, they get what they have missed, or are told."""
        name = self._feed.namespace
        logger.error(
            "%s: events of other nodes were missed here; all clients of this node connect again",
            name,
            extra=fields(namespace=name),
        )
        for member in self._index.select(None, frozenset()):
            member.out.cut()


def _target(rooms: Collection[str] | None, except_: Collection[str]) -> Target:
    return Target(None if rooms is None else frozenset(rooms), frozenset(except_))
