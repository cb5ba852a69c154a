"""The index of this server's members and rooms. It knows members only by identity."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

__all__ = ["RoomIndex"]

M = TypeVar("M")


class RoomIndex(Generic[M]):
    """Members and their rooms, indexed in both directions.

    Members are hashable. Iteration follows the order in which members were added.
    """

    __slots__ = ("_members", "_rooms")

    def __init__(self) -> None:
        # Dicts serve as ordered sets: the order of delivery is then deterministic, and tests rely on it.
        self._rooms: dict[str, dict[M, None]] = {}
        self._members: dict[M, set[str]] = {}

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, member: M) -> bool:
        return member in self._members

    def __iter__(self) -> Iterator[M]:
        return iter(list(self._members))

    def add(self, member: M, rooms: Iterable[str]) -> None:
        """Add a member with rooms, or add rooms to an existing member."""
        own = self._members.setdefault(member, set())
        for room in rooms:
            own.add(room)
            self._rooms.setdefault(room, {})[member] = None

    def leave(self, member: M, rooms: Iterable[str]) -> None:
        """Remove a member from rooms. Rooms without this member are ignored."""
        own = self._members.get(member)
        if own is None:
            return
        for room in rooms:
            if room in own:
                own.remove(room)
                self._drop(member, room)

    def remove(self, member: M) -> frozenset[str]:
        """Remove a member from the index; returns its rooms."""
        own = self._members.pop(member, None)
        if own is None:
            return frozenset()
        for room in own:
            self._drop(member, room)
        return frozenset(own)

    def rooms_of(self, member: M) -> frozenset[str]:
        """Return a member's rooms."""
        return frozenset(self._members.get(member, ()))

    def select(self, rooms: Collection[str] | None, except_: Collection[str]) -> list[M]:
        """Return the members of a target, each once.

        Args:
            rooms: Members of any of these rooms; ``None`` for all members.
            except_: Members of these rooms are left out.
        """
        chosen: Mapping[M, object]
        if rooms is None:
            chosen = self._members
        elif len(rooms) == 1:
            chosen = self._rooms.get(next(iter(rooms)), {})
        else:
            chosen = {member: None for room in sorted(rooms) for member in self._rooms.get(room, ())}
        if not except_:
            return list(chosen)
        left_out: set[M] = set()
        for room in except_:
            left_out.update(self._rooms.get(room, ()))
        return [member for member in chosen if member not in left_out]

    def may_select(self, rooms: Collection[str] | None) -> bool:
        """Return whether `select` may find a member in these rooms; False if it certainly finds none."""
        if rooms is None:
            return bool(self._members)
        return any(room in self._rooms for room in rooms)

    def _drop(self, member: M, room: str) -> None:
        members = self._rooms[room]
        del members[member]
        if not members:
            del self._rooms[room]
